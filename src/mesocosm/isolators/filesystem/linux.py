"""The isolator `filesystem/linux`: a mount namespace for every container, and a root file system if it asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, PersistentVolume, ProvisionedImage, Tmpfs, VolumeMode
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import ContainerState, Isolator, Phase
from mesocosm.isolators.filesystem.base import PersistentVolumes
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.kernel_filesystems import KernelFilesystems
from mesocosm.launcher.operations import Bind, Mount, Operation, ReceiveMounts, RootFilesystem
from mesocosm.linux import capabilities
from mesocosm.linux.mount import Attribute
from mesocosm.linux.namespaces import Namespace, supported


class LinuxFilesystemIsolator(Isolator):
    """Mounts of the container stay its own, those of the host reach it; with a rootfs it sees nothing else of the host.

    Sources: mount_namespaces(7), pivot_root(2), the Mesos pages on containerizer and volumes.
    """

    phase = Phase.FILESYSTEM
    brings = ("volume/host_path", "volume/image", "volume/sandbox_path")
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._sandbox_directory = flags.sandbox_directory
        self._volumes = PersistentVolumes(flags)

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where there is no right to mount."""
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError("mounting takes root with CAP_SYS_ADMIN", "run as root, or use filesystem/posix")
        if not supported(Namespace.MOUNT):
            raise UnsupportedError("this system has no mount namespaces", "use filesystem/posix")
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Knows the persistent volumes of containers again, and what was removed of such meanwhile."""
        await asyncio.to_thread(self._volumes.recover, containers)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The mount namespace, the root file system and what is empty in memory."""
        if config.debug:
            if config.rootfs is not None or config.persistent_volumes or config.tmpfs:
                # They would change what the parent sees.
                raise ContainerError(f"the debug container {container_id} can have no root filesystem, volume or tmpfs")
            return LaunchInfo(enter_namespaces=Namespace.MOUNT)
        persistent = [
            await asyncio.to_thread(self._persistent, container_id, volume, config)
            for volume in config.persistent_volumes
        ]
        return LaunchInfo(
            clone_namespaces=Namespace.MOUNT,
            operations=(ReceiveMounts(), *self._root(container_id, config)),
            volumes=(
                *(self._tmpfs(container_id, tmpfs, config) for tmpfs in config.tmpfs),
                *(bind for bind, _ in persistent),
            ),
            supplementary_groups=tuple(group for _, groups in persistent for group in groups),
            rootfs=None if config.rootfs is None else str(config.rootfs),
            rootfs_read_only=config.rootfs_read_only,
        )

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Mounts and unmounts in the namespace of the container. Its groups stay those that it was launched with."""
        from mesocosm.launcher import later  # Much to load for who never does that.

        new, gone = self._volumes.changes(container_id, config)
        for volume in gone:
            place = mounting.target(container_id, volume.container_path, config, self._sandbox_directory)
            await asyncio.to_thread(later.unmount, pidfd, place["target"], place["target_within"])
            self._volumes.leave(container_id, volume)
        for volume in new:
            bind, _ = await asyncio.to_thread(self._persistent, container_id, volume, config)
            await asyncio.to_thread(later.mount, pidfd, bind)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Knows that nobody has its volumes any more. The mounts end with the namespace."""
        self._volumes.forget(container_id)

    def _root(self, container_id: ContainerID, config: ContainerConfig) -> tuple[Operation, ...]:
        if config.rootfs is None:
            return ()
        if not config.rootfs.is_dir():
            raise ContainerError(f"the root filesystem {config.rootfs} is not a directory")
        sandbox = mounting.sandbox(container_id, config.directory)
        bind = Bind("", self._sandbox_directory, create=True, within=sandbox)
        return *_root_filesystem(config.rootfs, config.provisioned), KernelFilesystems(), bind

    def _tmpfs(self, container_id: ContainerID, tmpfs: Tmpfs, config: ContainerConfig) -> Mount:
        if tmpfs.size is not None and tmpfs.size <= 0:  # To the kernel, 0 means without a limit.
            raise ContainerError(f"{container_id}: the tmpfs {tmpfs.container_path} cannot have {tmpfs.size} bytes")
        size = (("size", str(tmpfs.size)),) if tmpfs.size is not None else ()
        return Mount(
            "tmpfs",
            attributes=Attribute.NO_SUID | Attribute.NO_DEVICES,
            options=(("mode", "1777"), *size),
            **mounting.target(container_id, tmpfs.container_path, config, self._sandbox_directory),
        )

    def _persistent(
        self, container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig
    ) -> tuple[Bind, tuple[int, ...]]:
        """The mount of the volume, and the groups that the container needs to use it."""
        path, groups = self._volumes.make(container_id, volume, config)
        bind = Bind(
            source=str(path),
            read_only=volume.mode is VolumeMode.RO,
            **mounting.target(container_id, volume.container_path, config, self._sandbox_directory),
        )
        return bind, groups


def _root_filesystem(rootfs: Path, provisioned: ProvisionedImage | None) -> tuple[Operation, ...]:
    """What makes the directory the root: an image's has no devices, and its layers may not be mounted yet."""
    if provisioned is None:
        return (RootFilesystem(str(rootfs)),)
    attributes = Attribute.NO_DEVICES | (Attribute.READ_ONLY if provisioned.read_only else Attribute.NONE)
    root = RootFilesystem(str(rootfs), attributes)
    return *mounting.layers(provisioned), root
