"""The isolator `volume/image`: the files of an image, somewhere in a container."""

from __future__ import annotations

from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, ImageVolume, VolumeMode
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, Operation
from mesocosm.linux.mount import Attribute


class ImageVolumeIsolator(Isolator):
    """Mounts what the containerizer has provisioned; changes are this container's own, and gone with it.

    Source: the Mesos page on container images, "Executor Dependencies in a Container Image".
    """

    phase = Phase.VOLUMES
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, sandbox_directory: str) -> None:
        self._sandbox_directory = sandbox_directory

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works wherever `filesystem/linux` does."""
        return cls(flags.sandbox_directory)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The mounts of all image volumes."""
        if not config.image_volumes:
            return None
        layers: list[Operation] = []
        binds: list[Operation] = []
        for volume in config.image_volumes:
            assert volume.provisioned is not None
            layers += mounting.layers(volume.provisioned)
            binds.append(self._bind(container_id, volume, config))
        return LaunchInfo(operations=tuple(layers), volumes=tuple(binds))

    def _bind(self, container_id: ContainerID, volume: ImageVolume, config: ContainerConfig) -> Bind:
        assert volume.provisioned is not None
        return Bind(
            source=str(volume.provisioned.path),
            read_only=volume.mode is VolumeMode.RO or volume.provisioned.read_only,
            attributes=Attribute.NO_DEVICES,
            **mounting.target(container_id, volume.container_path, config, self._sandbox_directory),
        )
