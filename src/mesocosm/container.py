"""The values that describe a container: its id, what is asked of it, and what became of it.

Names follow the messages of Mesos (`mesos.proto`, `slave/containerizer.proto`); units are bytes and seconds.
"""

from __future__ import annotations

import enum
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mesocosm.dataclass import dataclass, field, replace
from mesocosm.docker.info import DockerInfo
from mesocosm.errors import ContainerError
from mesocosm.images.image import ImageConfig
from mesocosm.networks import NetworkInfo
from mesocosm.secrets import Secret
from mesocosm.statistics import ResourceStatistics

# An id is a directory and a cgroup name: no separator, no control character; and no dot, which joins nested ids.
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_:@+=,~-]*")
_LEVELS_MAXIMUM = 100  # As messages of the API may be nested.
_ID_MAXIMUM = 242  # NAME_MAX less room for a temporary suffix.

CGROUP_SEPARATOR = "mesos"
CGROUP_LEAF = "leaf"
"""On cgroup v2, where a container's processes are: a cgroup whose children have controllers cannot have processes."""
RUNTIME_SEPARATOR = "containers"


@dataclass(frozen=True, slots=True)
class ContainerID:
    """The name of a container, nested in `parent` if there is one. Raises ContainerError for what is no name."""

    value: str
    parent: ContainerID | None = None

    def __post_init__(self) -> None:
        if len(self.value) > _ID_MAXIMUM or not _ID.fullmatch(self.value):
            raise ContainerError(
                f"container id {self.value!r} is not a name",
                f"use letters, digits, '-' and '_', at most {_ID_MAXIMUM}",
            )

    @property
    def root(self) -> ContainerID:
        """The top-level container this one is, or is nested in."""
        return self if self.parent is None else self.parent.root

    @property
    def depth(self) -> int:
        """0 for a top-level container, and one more for each level of nesting."""
        return 0 if self.parent is None else self.parent.depth + 1

    def join(self, separator: str) -> str:
        """The path `xxx/<separator>/yyy` for the container yyy nested in xxx."""
        return self.value if self.parent is None else f"{self.parent.join(separator)}/{separator}/{self.value}"

    @property
    def cgroup(self) -> str:
        """The cgroup of the container, below `--cgroups_root`."""
        return self.join(CGROUP_SEPARATOR)

    @classmethod
    def parse(cls, text: str) -> ContainerID:
        """The inverse of `str()`: levels are joined with dots. Raises ContainerError."""
        container: ContainerID | None = None
        values = text.split(".")
        if len(values) > _LEVELS_MAXIMUM:
            raise ContainerError(f"a container id of {len(values)} levels is too deep: at most {_LEVELS_MAXIMUM}")
        for value in values:
            container = cls(value, container)
        assert container is not None
        return container

    def is_within(self, other: ContainerID) -> bool:
        """Whether this is `other` or nested in it."""
        return self == other or (self.parent is not None and self.parent.is_within(other))

    def __str__(self) -> str:
        return self.value if self.parent is None else f"{self.parent}.{self.value}"


def sandbox_parts(container_id: ContainerID, directory: Path) -> tuple[Path, str]:
    """The part of a sandbox's path that no container can change, and what follows.

    Nothing follows for a top-level container. A nested one's sandbox is inside that of its parent, if nobody said
    otherwise. Systems that cannot look up a path inside a directory (openat2(2)) have no hostile containers either.
    """
    nested = PurePosixPath(container_id.join(RUNTIME_SEPARATOR)).parts[1:]
    if not nested or sys.platform != "linux" or directory.parts[-len(nested) :] != nested:
        return directory, ""
    return Path(*directory.parts[: -len(nested)]), "/".join(nested)


class ContainerClass(enum.Enum):
    """DEBUG containers enter every namespace of their parent."""

    DEFAULT = "DEFAULT"
    DEBUG = "DEBUG"


class ContainerType(enum.Enum):
    """`ContainerInfo.Type`: which kind of containerizer the container is for."""

    MESOS = "MESOS"
    DOCKER = "DOCKER"


class IpcMode(enum.Enum):
    """`LinuxInfo.IpcMode`: an IPC namespace and /dev/shm of its own, or the parent's."""

    PRIVATE = "PRIVATE"
    SHARE_PARENT = "SHARE_PARENT"


class VolumeMode(enum.Enum):
    """Read-only or read-write."""

    RO = "RO"
    RW = "RW"


class MountPropagation(enum.Enum):
    """`MountPropagation.Mode`: whether mounts made below a volume later travel between host and container."""

    HOST_TO_CONTAINER = "HOST_TO_CONTAINER"
    BIDIRECTIONAL = "BIDIRECTIONAL"


class VolumeKind(enum.Enum):
    """What a volume is made of: `Volume.Source.Type` of mesos.proto."""

    HOST_PATH = "HOST_PATH"
    SANDBOX_PATH = "SANDBOX_PATH"
    SECRET = "SECRET"
    DOCKER_VOLUME = "DOCKER_VOLUME"


class SandboxOf(enum.Enum):
    """`SandboxPath.Type`: whose sandbox, that of the container itself or of the one that it is nested in."""

    SELF = "SELF"
    PARENT = "PARENT"


@dataclass(frozen=True, slots=True)
class SandboxPath:
    """A file or directory in a sandbox, as a relative path. What is missing is made, as a directory."""

    path: str
    of: SandboxOf = SandboxOf.SELF


@dataclass(frozen=True, slots=True)
class DockerVolume:
    """A volume of a Docker volume plugin; `options` are for its creation (`Volume.Source.DockerVolume`)."""

    driver: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volume:
    """What a container sees at `container_path`: a `host_path`, `sandbox_path`, `secret` or `docker_volume`.

    A relative `container_path` is below the sandbox. An absolute `host_path` is a file or directory of the host, a
    relative one is in the sandbox. Without `propagation`, mounts do not travel either way; only those of the host do.
    """

    container_path: str
    host_path: str | None = None
    mode: VolumeMode = VolumeMode.RW
    propagation: MountPropagation | None = None
    sandbox_path: SandboxPath | None = None
    secret: Secret | None = None
    docker_volume: DockerVolume | None = None

    @property
    def kind(self) -> VolumeKind | None:
        """What it is made of; None: of nothing."""
        if self.docker_volume is not None:
            return VolumeKind.DOCKER_VOLUME
        if self.secret is not None:
            return VolumeKind.SECRET
        if self.in_sandbox is not None:
            return VolumeKind.SANDBOX_PATH
        return None if self.host_path is None else VolumeKind.HOST_PATH

    @property
    def in_sandbox(self) -> SandboxPath | None:
        """The path in a sandbox, also where it is written as a relative `host_path`, as it once was."""
        if self.host_path is None or self.host_path.startswith("/"):
            return self.sandbox_path
        return SandboxPath(self.host_path)


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory at `container_path`, of `size` bytes at most (None: half of the memory)."""

    container_path: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class SeccompInfo:
    """The filter of a container's system calls: the profile `profile_name`, or none at all."""

    profile_name: str | None = None
    unconfined: bool = False


@dataclass(frozen=True, slots=True)
class RLimit:
    """A limit of setrlimit(2): `name` is that of `RLimitInfo.RLimit.Type` without the `RLMT_`. No numbers: no limit."""

    name: str
    soft: int | None = None
    hard: int | None = None


class DiskType(enum.Enum):
    """How a disk beside that of the work directory is used: many volumes are made below a PATH, a MOUNT is one."""

    PATH = "PATH"
    MOUNT = "MOUNT"


@dataclass(frozen=True, slots=True)
class DiskSource:
    """A disk that the operator named: where it is, in the work directory if that is relative."""

    type: DiskType
    root: str


@dataclass(frozen=True, slots=True)
class PersistentVolume:
    """`size` bytes of a disk that outlive containers: its directory is `persistent_volume_path`.

    It is at `container_path`, which is relative to the sandbox. Without a `source` it is on the disk of the work
    directory. One that is `shared` may be used by several containers at a time. Raises ContainerError for an `id` that
    is no name.
    """

    id: str
    role: str
    size: int
    container_path: str
    mode: VolumeMode = VolumeMode.RW
    principal: str | None = None
    source: DiskSource | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        for name in (self.id, self.role):
            if name in ("", ".", "..") or "\0" in name:
                raise ContainerError(f"persistent volume {self.id!r}: {name!r} is not a name")
        if "/" in self.id:
            raise ContainerError(f"persistent volume {self.id!r}: there is a '/' in its id")
        if self.size <= 0:
            raise ContainerError(f"persistent volume {self.id!r} has no size")

    @property
    def is_whole_disk(self) -> bool:
        """Whether nothing else is on its disk, which then is all the limit that it needs."""
        return self.source is not None and self.source.type is DiskType.MOUNT


def persistent_volume_path(work_dir: Path, volume: PersistentVolume) -> Path:
    """Where the volume is, as in Mesos (slave/paths.cpp): `volumes/roles/ROLE/ID`; a `/` in the role is a space.

    That is below the disk that it is on, and a disk that is one volume is where it is mounted.
    """
    disk = work_dir if volume.source is None else work_dir / volume.source.root
    if volume.is_whole_disk:
        return disk
    return disk / "volumes" / "roles" / volume.role.replace("/", " ") / volume.id


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """The Docker or OCI image that a file system is made of (`Image` of mesos.proto), as `docker pull` names it.

    Unless `cached`, the place it comes from is asked for it again although it is here. `credentials` is what a
    `~/.docker/config.json` would say of registries, as JSON; it is not written to disk.
    """

    reference: str
    cached: bool = True
    credentials: Secret | None = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """The directories of a mount of overlayfs: the `layers`, the lowest first, and where `upper` takes the changes."""

    layers: tuple[Path, ...]
    upper: Path
    work: Path


@dataclass(frozen=True, slots=True)
class ProvisionedImage:
    """A file system that was made of an image, at `path` on the host.

    With `overlay`, that is mounted there, but only in the mount namespace of its container.
    """

    path: Path
    config: ImageConfig
    overlay: Overlay | None = None
    read_only: bool = False

    @property
    def layers(self) -> tuple[Path, ...]:
        """The directories that its files are in, before the container changes any; the lowest first."""
        return (self.path,) if self.overlay is None else self.overlay.layers


@dataclass(frozen=True, slots=True)
class ImageVolume:
    """The files of an image, at `container_path`. They are `provisioned` by the containerizer."""

    container_path: str
    image: ImageRequest
    mode: VolumeMode = VolumeMode.RW
    provisioned: ProvisionedImage | None = None


@dataclass(frozen=True, slots=True)
class LinuxInfo:
    """What a container asks of the Linux isolators (`LinuxInfo` of mesos.proto). `shm_size` is in bytes here.

    Capabilities are names without the `CAP_`; None leaves the choice to the agent.
    """

    share_pid_namespace: bool = False
    ipc_mode: IpcMode | None = None
    shm_size: int | None = None
    share_cgroups: bool = True
    effective_capabilities: tuple[str, ...] | None = None
    bounding_capabilities: tuple[str, ...] | None = None
    seccomp: SeccompInfo | None = None


@dataclass(frozen=True, slots=True)
class TTYInfo:
    """A terminal for the command, and the size of its window (`TTYInfo.WindowSize`)."""

    rows: int = 24
    columns: int = 80


@dataclass(frozen=True, slots=True)
class URI:
    """A file that is fetched into the sandbox before the command starts (`CommandInfo.URI` of mesos.proto).

    It is called `output_file`, a path in the sandbox, else as the last part of `value`. `extract` unpacks an archive,
    which its name tells, unless the file is to be `executable`. `cache` keeps a copy for later containers.
    """

    value: str
    executable: bool = False
    extract: bool = True
    cache: bool = False
    output_file: str | None = None


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """What to run: `value` by /bin/sh -c if `shell`, else the executable `value` with `arguments` as its whole argv.

    `uris` are fetched into the sandbox first. With `program`, the name of one that is built in (`launcher.programs`),
    that runs instead, and is told what it stands for; it needs no file, and the rest may be left out then.
    """

    value: str | None = None
    arguments: tuple[str, ...] = ()
    shell: bool = True
    uris: tuple[URI, ...] = ()
    program: str | None = None

    @classmethod
    def of(cls, argv: tuple[str, ...] | list[str]) -> CommandInfo:
        """The command that executes `argv` without a shell."""
        return cls(value=argv[0], arguments=tuple(argv), shell=False)


@dataclass(frozen=True, slots=True)
class Resources:
    """Amounts a container asks for: `cpus` in cores, `mem` in bytes, `pids` in tasks. None: not asked for.

    As a limit, an infinite number is none, although there is a request. `ports` are ranges of the host's, with both
    ends, and `disk` is the bytes that the sandbox may hold; both are requests only.
    """

    cpus: float | None = None
    mem: int | float | None = None
    pids: int | None = None
    ports: tuple[tuple[int, int], ...] | None = None
    disk: int | None = None
    cpus_revocable: bool = False
    """Whether any of the cpus can be taken away again (`Resource.RevocableInfo`)."""


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """All that is asked of a container at its launch.

    `directory` is the sandbox on the host (None: below the work directory). `rootfs` is a directory to use as the
    root file system (None: the host's); that of an `image` is set by the containerizer, which also says what it has
    `provisioned`. `resources` are requests: a share of the CPU and the soft memory limit; `limits` are bounds, and
    default to the requests as in Mesos. `environment` is exactly what the command gets besides PATH, MESOS_SANDBOX and
    the `secret_environment`. `user` is a name or `UID`, and perhaps `:` and that of a group. Those of `network_infos`
    that have a name are networks that it joins, and then it is not in the host's; with `loopback_only` it is in none.
    A container of the type DOCKER has `docker`, too; its `user` owns the sandbox, and the image says who runs in it.
    If its command has a program, that has the `program_environment`, and is not in the container but starts it.
    """

    command: CommandInfo
    type: ContainerType = ContainerType.MESOS
    directory: Path | None = None
    rootfs: Path | None = None
    rootfs_read_only: bool = False
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    program_environment: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Mapping[str, Secret] = field(default_factory=dict)
    working_directory: str | None = None
    volumes: tuple[Volume, ...] = ()
    persistent_volumes: tuple[PersistentVolume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    linux_info: LinuxInfo = LinuxInfo()
    resources: Resources = Resources()
    limits: Resources = Resources()
    container_class: ContainerClass = ContainerClass.DEFAULT
    tty_info: TTYInfo | None = None
    interactive: bool = False
    rlimits: tuple[RLimit, ...] = ()
    network_infos: tuple[NetworkInfo, ...] = ()
    loopback_only: bool = False
    hostname: str | None = None
    image: ImageRequest | None = None
    image_volumes: tuple[ImageVolume, ...] = ()
    provisioned: ProvisionedImage | None = None
    docker: DockerInfo | None = None

    @property
    def networks(self) -> tuple[NetworkInfo, ...]:
        """The networks that it joins, in the order of its interfaces; none: it is where its parent is, or the host."""
        return tuple(info for info in self.network_infos if info.name is not None)

    @property
    def root_layers(self) -> tuple[Path, ...]:
        """The directories that its own root file system is made of, the lowest first; none: it has the host's."""
        if self.provisioned is not None:
            return self.provisioned.layers
        return () if self.rootfs is None else (self.rootfs,)

    @property
    def images(self) -> tuple[ImageRequest, ...]:
        """All that it asks for, its own first."""
        own = () if self.image is None else (self.image,)
        return (*own, *(volume.image for volume in self.image_volumes))

    def without_secrets(self) -> ContainerConfig:
        """The same, as it may be written to disk."""
        if not any(image.credentials for image in self.images):
            return self
        return replace(
            self,
            image=None if self.image is None else replace(self.image, credentials=None),
            image_volumes=tuple(
                replace(volume, image=replace(volume.image, credentials=None)) for volume in self.image_volumes
            ),
        )

    @property
    def debug(self) -> bool:
        """Whether the container is to be in all namespaces of its parent."""
        return self.container_class is ContainerClass.DEBUG


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended. `status` is that of wait(2), None where nobody could see it."""

    status: int | None
    reason: str | None = None
    message: str | None = None
    limited_resource: str | None = None
    usage: ResourceStatistics | None = None
    limited_ranges: tuple[tuple[int, int], ...] = ()
    limited_amount: int | None = None

    @property
    def exit_status(self) -> int | None:
        """The status as a shell reports it: the exit code, or 128 + N for signal N."""
        if self.status is None:
            return None
        if os.WIFSIGNALED(self.status):
            return 128 + os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status)


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """What a running container is: `executor_pid` is its init on the host, `network_infos` have its addresses.

    `net_cls_classid` is the class of its packets (`CgroupInfo.NetCls`).
    """

    container_id: ContainerID | None = None
    executor_pid: int | None = None
    network_infos: tuple[NetworkInfo, ...] | None = None
    net_cls_classid: int | None = None
