"""What the launch of a container does, as data: isolators return parts of it, the launcher's child applies it."""

from __future__ import annotations

from mesocosm.dataclass import dataclass, field
from mesocosm.launcher.kernel_filesystems import CgroupMounts
from mesocosm.launcher.operations import Operation
from mesocosm.linux.libc import TYPE_CHECKING
from mesocosm.linux.namespaces import Namespace

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        return (*self.first, *self.common, *self.volumes)

    @property
    def common(self) -> tuple[Operation, ...]:
        """Those that the next container is likely to need as well, or the like of them."""
        return (*self.operations, CgroupMounts(self.cgroups)) if self.cgroups else self.operations

    @property
    def variables(self) -> dict[str, str]:
        """All that the command has in its environment."""
        return {**self.environment, **self.secret_environment}

    @property
    def confines(self) -> bool:
        """Whether the command is to have less than whoever executes it."""
        return bool(self.rlimits or self.capabilities or self.no_new_privileges or self.system_calls)
