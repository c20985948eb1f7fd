"""The isolator `filesystem/posix`: containers share the host's file system, and have their sandbox in it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, PersistentVolume, VolumeMode
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState, Isolator, Phase
from mesocosm.isolators.filesystem.base import PersistentVolumes
from mesocosm.launcher.info import LaunchInfo


class PosixFilesystemIsolator(Isolator):
    """Isolates nothing, and refuses what would need a mount. A persistent volume is a link in the sandbox."""

    phase = Phase.FILESYSTEM

    def __init__(self, flags: Flags) -> None:
        self._volumes = PersistentVolumes(flags)

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere."""
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Knows the persistent volumes of containers again, and what was removed of such meanwhile."""
        await asyncio.to_thread(self._volumes.recover, containers)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Refuses a root file system and tmpfs: a container without them would not be what was asked for."""
        asked = {"a root filesystem": config.rootfs, "a tmpfs": config.tmpfs}
        for what, value in asked.items():
            if value:
                raise ContainerError(
                    f"{container_id} asks for {what}", "enable the isolator filesystem/linux, which takes root on Linux"
                )
        links = [
            await asyncio.to_thread(self._link, container_id, volume, config) for volume in config.persistent_volumes
        ]
        groups = tuple(itertools.chain.from_iterable(links))
        return LaunchInfo(supplementary_groups=groups) if groups else None

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Makes and removes links. The container's groups stay those that it was launched with."""
        new, gone = self._volumes.changes(container_id, config)
        for volume in gone:
            await asyncio.to_thread(self._unlink, container_id, volume, config)
        for volume in new:
            await asyncio.to_thread(self._link, container_id, volume, config)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Knows that nobody has its volumes any more. The links end with the sandbox."""
        self._volumes.forget(container_id)

    def _link(self, container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig) -> tuple[int, ...]:
        """The groups that the container needs to use what the link leads to."""
        if container_id.parent is not None or "/" in volume.container_path or volume.mode is VolumeMode.RO:
            raise ContainerError(
                f"{container_id}: the persistent volume {volume.id!r} cannot be nested, deep or read-only",
                "enable the isolator filesystem/linux, which takes root on Linux",
            )
        path, groups = self._volumes.make(container_id, volume, config)
        assert config.directory is not None
        link = config.directory / volume.container_path
        if not (link.is_symlink() and link.readlink() == path):
            link.symlink_to(path)
        return groups

    def _unlink(self, container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig) -> None:
        assert config.directory is not None
        link = config.directory / volume.container_path
        if link.is_symlink():
            link.unlink()
        self._volumes.leave(container_id, volume)
