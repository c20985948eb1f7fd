"""What the launch of a container does, as data: isolators return parts of it, the launcher's child applies it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, fields, replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Any

from mesocosm.dataclass import dataclass
from mesocosm.errors import ContainerError
from mesocosm.launcher.kernel_filesystems import CgroupMounts
from mesocosm.launcher.operations import Operation
from mesocosm.linux.namespaces import Namespace


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose process the command is: numeric ids, and the whole list of supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed: `argv`, by the file `executable`, looked up in the container's PATH if it has no slash.

    With `program`, that one (see `programs`) is called instead, and is given this value.
    """

    executable: str
    argv: tuple[str, ...]
    program: str | None = None


@dataclass(frozen=True, slots=True)
class ResourceLimit:
    """A limit of setrlimit(2), by the number that the kernel has for it, and its name for people. None: no limit."""

    name: str
    number: int
    soft: int | None
    hard: int | None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Sets of capabilities, as in `linux.capabilities`: nothing in the container ever has more than `bounding`.

    A command of root has all of that, as the kernel gives it with every exec. One of another user has those that are
    `effective`: they are permitted, inheritable and ambient, too, so that it passes them on to what it executes.
    """

    bounding: int
    effective: int = 0


@dataclass(frozen=True, slots=True)
class SystemCallFilters:
    """Programs for seccomp(2): that of the command, and that of the init, which only has to wait and to report."""

    command: bytes
    init: bytes


@dataclass(frozen=True, slots=True)
class LaunchInfo:
    """One isolator's part in a launch, or all parts merged.

    `enter_namespaces` are entered as the parent container has them, `clone_namespaces` are new. `first` come the
    operations that need the mounts as the host has them, then `operations` in order, and then `volumes`, which a
    container asked for and may cover anything with: with targets inside `rootfs`, before that becomes the root
    directory. `cgroups` are directories of the host that a `rootfs` shows in /sys/fs/cgroup, by their names there.
    `secret_environment` is in no record, and `supplementary_groups` come besides those of the `credentials`. `tty` asks
    for a terminal of so many rows and columns. `hostname` is that of a new UTS namespace. What follows it takes from
    the command what it could do otherwise.
    """

    enter_namespaces: Namespace = Namespace.NONE
    clone_namespaces: Namespace = Namespace.NONE
    first: tuple[Operation, ...] = ()
    operations: tuple[Operation, ...] = ()
    volumes: tuple[Operation, ...] = ()
    cgroups: tuple[tuple[str, str], ...] = ()
    rootfs: str | None = None
    rootfs_read_only: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    working_directory: str | None = None
    credentials: Credentials | None = None
    supplementary_groups: tuple[int, ...] = ()
    command: Command | None = None
    tty: tuple[int, int] | None = None
    hostname: str | None = None
    rlimits: tuple[ResourceLimit, ...] = ()
    capabilities: Capabilities | None = None
    no_new_privileges: bool = False
    system_calls: SystemCallFilters | None = None

    @property
    def changes(self) -> tuple[Operation, ...]:
        """All operations, in the order in which they are applied."""
        cgroups = (CgroupMounts(self.cgroups),) if self.cgroups else ()
        return (*self.first, *self.operations, *cgroups, *self.volumes)

    @property
    def variables(self) -> dict[str, str]:
        """All that the command has in its environment."""
        return {**self.environment, **self.secret_environment}

    @property
    def confines(self) -> bool:
        """Whether the command is to have less than whoever executes it."""
        return bool(self.rlimits or self.capabilities or self.no_new_privileges or self.system_calls)


def merge(parts: Iterable[LaunchInfo]) -> LaunchInfo:
    """All `parts` as one: namespaces, variables and groups united, operations in order.

    A volume comes before those below it, so that none hides another, and else they are in order, too. Raises
    ContainerError where two parts want different things of what there is only one of, and for operations that the
    launcher process does not know.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        for name, default, value in zip(_NAMES, _DEFAULTS, _values(part), strict=True):
            if value is not default and value != default:
                merged[name] = _join(name, merged[name], value) if name in merged else value
    info = LaunchInfo(**merged)
    info = replace(info, volumes=tuple(sorted(info.volumes, key=_depth)), credentials=_with_groups(info))
    if both := info.enter_namespaces & info.clone_namespaces & ~Namespace.PID:
        raise ContainerError(f"the {both.file} namespace is to be both the parent's and a new one")
    if info.hostname is not None and Namespace.UTS not in info.clone_namespaces:
        raise ContainerError(f"the host name {info.hostname} takes a UTS namespace of the container's own")
    for operation in info.changes:
        _check_known(operation)
    return info


def _check_known(operation: Operation) -> None:
    """Raises ContainerError for an operation of another package: the launcher process never imports its class."""
    kind = type(operation)
    if not kind.__module__.startswith(_LAUNCHER):
        raise ContainerError(
            f"the launcher does not know the operation {kind.__module__}.{kind.__qualname__}",
            "use those of mesocosm.launcher.operations, and the isolator's isolate() for the rest",
        )


def _with_groups(info: LaunchInfo) -> Credentials | None:
    """The credentials, with the other groups."""
    if info.credentials is None or not info.supplementary_groups:
        return info.credentials
    groups = dict.fromkeys((*info.credentials.groups, *info.supplementary_groups))
    return replace(info.credentials, groups=tuple(groups))


def _depth(operation: Operation) -> int:
    """How many directories its target is in."""
    return len(PurePosixPath(operation.place).parts)


def _join(name: str, before: Any, added: Any) -> Any:
    if isinstance(before, Namespace | bool):
        return before | added
    if name in ("first", "operations", "volumes", "supplementary_groups", "rlimits"):
        return before + added
    if name == "cgroups":
        return tuple(dict.fromkeys(before + added))  # On v2, all have the same one.
    if isinstance(before, Mapping):
        return {**before, **added}
    if before != added:
        raise ContainerError(f"two isolators disagree on the container's {name.replace('_', ' ')}: {before}, {added}")
    return before


_LAUNCHER = f"{__name__.rpartition('.')[0]}."
_NAMES = tuple(entry.name for entry in fields(LaunchInfo))
_values = attrgetter(*_NAMES)
_DEFAULTS = _values(LaunchInfo())
