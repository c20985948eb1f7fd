"""The isolator `volume/secret`: files with secrets in them, which are on no disk."""

from __future__ import annotations

import asyncio
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, Volume, VolumeMode
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import SecretFile
from mesocosm.secret_resolver import SecretResolver, create_resolver, resolve
from mesocosm.secrets import Secret


class SecretVolumeIsolator(Isolator):
    """Has secrets resolved, and puts each into a file of a ramfs of its own, for the container's user alone.

    What is in a ramfs is never written anywhere, also not to swap. Sources: the Mesos page on secrets, and
    filesystems/ramfs-rootfs-initramfs.rst of the kernel.
    """

    phase = Phase.VOLUMES
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._sandbox_directory = flags.sandbox_directory
        self._resolver: SecretResolver = create_resolver(flags.secret_resolver)

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works where `filesystem/linux` does."""
        return cls(flags)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The files, whose secrets are resolved at the same time."""
        files = [
            self._file(container_id, config, volume, volume.secret)
            for volume in config.volumes
            if volume.secret is not None
        ]
        return LaunchInfo(volumes=tuple(await asyncio.gather(*files))) if files else None

    async def _file(
        self, container_id: ContainerID, config: ContainerConfig, volume: Volume, secret: Secret
    ) -> SecretFile:
        target = mounting.target(container_id, volume.container_path, config, self._sandbox_directory)
        data = await resolve(self._resolver, container_id, f"the volume {volume.container_path}", secret)
        return SecretFile(data=data, read_only=volume.mode is VolumeMode.RO, **target)
