"""What the launch of a container does, as data: isolators return parts of it, the launcher's child applies it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mesocosm.errors import ContainerError
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
    """What is executed: `argv`, by the file `executable`, looked up in the container's PATH if it has no slash."""

    executable: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LaunchInfo:
    """One isolator's part in a launch, or all parts merged.

    `enter_namespaces` are entered as the parent container has them, `clone_namespaces` are new. `operations` are
    applied in order, and then `volumes`, which a container asked for and may cover anything with: with targets inside
    `rootfs`, before that becomes the root directory. `tty` asks for a terminal of so many rows and columns. `hostname`
    takes a new UTS namespace.
    """

    enter_namespaces: Namespace = Namespace.NONE
    clone_namespaces: Namespace = Namespace.NONE
    operations: tuple[Operation, ...] = ()
    volumes: tuple[Operation, ...] = ()
    rootfs: str | None = None
    rootfs_read_only: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    credentials: Credentials | None = None
    command: Command | None = None
    tty: tuple[int, int] | None = None
    hostname: str | None = None


def merge(parts: Iterable[LaunchInfo]) -> LaunchInfo:
    """All `parts` as one: namespaces and variables united, operations in order.

    Raises ContainerError where two parts want different things of what there is only one of, and for operations that
    the launcher process does not know.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        for name, default in _DEFAULTS.items():
            if (value := getattr(part, name)) != default:
                merged[name] = _join(name, merged[name], value) if name in merged else value
    info = LaunchInfo(**merged)
    if both := info.enter_namespaces & info.clone_namespaces & ~Namespace.PID:
        raise ContainerError(f"the {both.file} namespace is to be both the parent's and a new one")
    if info.hostname is not None and Namespace.UTS not in info.clone_namespaces:
        raise ContainerError(f"the host name {info.hostname} takes a UTS namespace of the container's own")
    for operation in (*info.operations, *info.volumes):
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


def _join(name: str, before: Any, added: Any) -> Any:
    if isinstance(before, Namespace | bool):
        return before | added
    if name in ("operations", "volumes"):
        return before + added
    if isinstance(before, Mapping):
        return {**before, **added}
    if before != added:
        raise ContainerError(f"two isolators disagree on the container's {name.replace('_', ' ')}: {before}, {added}")
    return before


_LAUNCHER = f"{__name__.rpartition('.')[0]}."
_DEFAULTS = {entry.name: getattr(LaunchInfo(), entry.name) for entry in fields(LaunchInfo)}
