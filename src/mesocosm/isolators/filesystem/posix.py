"""The isolator `filesystem/posix`: containers share the host's file system, and have their sandbox in it."""

from __future__ import annotations

from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.launcher.info import LaunchInfo


class PosixFilesystemIsolator(Isolator):
    """Isolates nothing, and refuses what would need a mount."""

    phase = Phase.FILESYSTEM

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere."""
        return cls()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Refuses a root file system, volumes and tmpfs: a container without them would not be what was asked for."""
        asked = {"a root filesystem": config.rootfs, "volumes": config.volumes, "a tmpfs": config.tmpfs}
        for what, value in asked.items():
            if value:
                raise ContainerError(
                    f"{container_id} asks for {what}", "enable the isolator filesystem/linux, which takes root on Linux"
                )
        return None
