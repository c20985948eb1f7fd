"""The isolator `filesystem/linux`: a mount namespace for every container, and a root file system if it asks for one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Self, TypedDict

from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    MountPropagation,
    PersistentVolume,
    Tmpfs,
    Volume,
    VolumeMode,
    sandbox_parts,
)
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.isolators.filesystem.base import make_persistent_volume
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.kernel_filesystems import KernelFilesystems
from mesocosm.launcher.operations import Bind, Mount, Operation, ReceiveMounts, RootFilesystem, TakeShared
from mesocosm.linux import capabilities
from mesocosm.linux.mount import Attribute, Propagation
from mesocosm.linux.namespaces import Namespace, supported


class LinuxFilesystemIsolator(Isolator):
    """Mounts of the container stay its own, those of the host reach it; with a rootfs it sees nothing else of the host.

    Sources: mount_namespaces(7), pivot_root(2), the Mesos pages on containerizer and volumes.
    """

    phase = Phase.FILESYSTEM
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._sandbox_directory = flags.sandbox_directory
        self._work_dir = flags.work_dir

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where there is no right to mount."""
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError("mounting takes root with CAP_SYS_ADMIN", "run as root, or use filesystem/posix")
        if not supported(Namespace.MOUNT):
            raise UnsupportedError("this system has no mount namespaces", "use filesystem/posix")
        return cls(flags)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The mount namespace and everything mounted in it, in order."""
        if config.debug:
            _refuse_mounts_of_debug(container_id, config)
            return LaunchInfo(enter_namespaces=Namespace.MOUNT)
        operations: list[Operation] = [
            TakeShared(volume.host_path)
            for volume in config.volumes
            if volume.propagation is MountPropagation.BIDIRECTIONAL
        ]
        operations.append(ReceiveMounts())
        if config.rootfs is not None:
            operations += self._root(container_id, config.rootfs, config)
        volumes: list[Operation] = [self._tmpfs(container_id, tmpfs, config) for tmpfs in config.tmpfs]
        volumes += (self._volume(container_id, volume, config) for volume in config.volumes)
        volumes += (self._persistent(container_id, volume, config) for volume in config.persistent_volumes)
        return LaunchInfo(
            clone_namespaces=Namespace.MOUNT,
            operations=tuple(operations),
            volumes=tuple(volumes),
            rootfs=None if config.rootfs is None else str(config.rootfs),
            rootfs_read_only=config.rootfs_read_only,
        )

    def _root(self, container_id: ContainerID, rootfs: Path, config: ContainerConfig) -> tuple[Operation, ...]:
        if not rootfs.is_dir():
            raise ContainerError(f"the root filesystem {rootfs} is not a directory")
        base, inside = _sandbox(container_id, config)
        sandbox = Bind(inside or ".", self._sandbox_directory, create=True, within=base)
        return RootFilesystem(str(rootfs)), KernelFilesystems(), sandbox

    def _tmpfs(self, container_id: ContainerID, tmpfs: Tmpfs, config: ContainerConfig) -> Mount:
        if tmpfs.size is not None and tmpfs.size <= 0:  # To the kernel, 0 means without a limit.
            raise ContainerError(f"{container_id}: the tmpfs {tmpfs.container_path} cannot have {tmpfs.size} bytes")
        size = (("size", str(tmpfs.size)),) if tmpfs.size is not None else ()
        return Mount(
            "tmpfs",
            attributes=Attribute.NO_SUID | Attribute.NO_DEVICES,
            options=(("mode", "1777"), *size),
            **self._target(container_id, tmpfs.container_path, config),
        )

    def _volume(self, container_id: ContainerID, volume: Volume, config: ContainerConfig) -> Bind:
        source, within = _source(container_id, volume, config)
        return Bind(
            source=source,
            read_only=volume.mode is VolumeMode.RO,
            propagation=_PROPAGATION[volume.propagation],
            within=within,
            **self._target(container_id, volume.container_path, config),
        )

    def _persistent(self, container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig) -> Bind:
        path = make_persistent_volume(container_id, volume, config, self._work_dir)
        return Bind(
            source=str(path),
            read_only=volume.mode is VolumeMode.RO,
            **self._target(container_id, volume.container_path, config),
        )

    def _target(self, container_id: ContainerID, path: str, config: ContainerConfig) -> _Target:
        """Where a mount goes, and whether a missing mount point is made: never in the host's file system."""
        if ".." in PurePosixPath(path).parts:
            raise ContainerError(f"{container_id}: the container path {path} has a '..'")
        if not PurePosixPath(path).is_absolute():
            if config.rootfs is not None:
                return _Target(target=f"{self._sandbox_directory}/{path}", create=True, target_within=None)
            base, inside = _sandbox(container_id, config)
            return _Target(target=f"{inside}/{path}", create=True, target_within=base)
        if PurePosixPath(path) == PurePosixPath("/"):
            raise ContainerError(f"{container_id}: nothing can be mounted on /", "give another root filesystem instead")
        if config.rootfs is None and not Path(path).exists():
            raise ContainerError(
                f"{container_id}: the container path {path} does not exist on the host",
                "without a root filesystem of its own a container can only cover what is there",
            )
        return _Target(target=path, create=config.rootfs is not None, target_within=None)


class _Target(TypedDict):
    """The parameters of a Bind or a Mount that say where it goes."""

    target: str
    create: bool
    target_within: str | None


def _sandbox(container_id: ContainerID, config: ContainerConfig) -> tuple[str, str]:
    """The directory of the host to look the sandbox up from, and its path in there."""
    assert config.directory is not None
    base, inside = sandbox_parts(container_id, config.directory)
    return str(base), inside


def _refuse_mounts_of_debug(container_id: ContainerID, config: ContainerConfig) -> None:
    """A debug container is in its parent's mount namespace: a mount would change that of the parent."""
    if config.rootfs is not None or config.volumes or config.persistent_volumes or config.tmpfs:
        raise ContainerError(f"the debug container {container_id} can have no root filesystem, volume or tmpfs")


def _source(container_id: ContainerID, volume: Volume, config: ContainerConfig) -> tuple[str, str | None]:
    """The path of a volume's source, and the directory it is looked up in if it is relative."""
    if PurePosixPath(volume.host_path).is_absolute():
        if not Path(volume.host_path).exists():
            raise ContainerError(
                f"{container_id}: the source {volume.host_path} of the volume {volume.container_path} does not exist"
            )
        return volume.host_path, None
    if volume.propagation is not None:
        raise ContainerError(
            f"{container_id}: the volume {volume.container_path} cannot be shared: it is in the sandbox"
        )
    base, inside = _sandbox(container_id, config)
    return f"{inside}/{volume.host_path}", base


_PROPAGATION = {
    None: Propagation.PRIVATE,
    MountPropagation.HOST_TO_CONTAINER: Propagation.SLAVE,
    # As it was taken: a peer of the host's mount, if that is shared.
    MountPropagation.BIDIRECTIONAL: Propagation.UNCHANGED,
}
