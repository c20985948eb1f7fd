"""What is asked of a container of the type DOCKER."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.container import ContainerConfig, ContainerType, Volume
from mesocosm.dataclass import replace
from mesocosm.docker.info import DockerInfo, DockerNetwork
from mesocosm.errors import ContainerError
from mesocosm.networks import PortMapping

_OF_MESOS = ("mesos", "linux_info", "rlimit_info", "tty_info")
"""What Mesos ignores here; but what takes rights away cannot be left out without a word."""
DEFAULT_DRIVER = "local"
"""The driver of a volume that names none: Docker's own (docker-volume-create(1))."""


def docker_config(config: ContainerConfig, container: v1.ContainerInfo) -> ContainerConfig:
    """`config` with what only a container of the type DOCKER can be asked for. Raises ContainerError."""
    for name in _OF_MESOS:
        if container.HasField(name):
            raise _unsupported(name, "leave it out, or use docker.parameters")
    for index, message in enumerate(container.volumes):
        _check_volume(f"volumes[{index}]", message)
    return replace(
        config,
        type=ContainerType.DOCKER,
        volumes=tuple(map(_volume, config.volumes, container.volumes)),
        docker=_docker_info(container.docker),
    )


def _check_volume(where: str, message: v1.Volume) -> None:
    if message.HasField("image"):
        raise _unsupported(f"{where}.image", "leave it out")
    if message.source.HasField("sandbox_path"):
        raise _unsupported(f"{where}.source.sandbox_path", "write it as a relative host_path")
    if message.source.HasField("secret"):
        raise _unsupported(f"{where}.source.secret", "leave it out")


def _volume(volume: Volume, message: v1.Volume) -> Volume:
    """Docker lets no mounts travel if that is not asked for; Mesos leaves it at that."""
    return volume if message.source.host_path.HasField("mount_propagation") else replace(volume, propagation=None)


def _docker_info(message: v1.ContainerInfo.DockerInfo) -> DockerInfo:
    return DockerInfo(
        message.image,
        network=DockerNetwork[v1.ContainerInfo.DockerInfo.Network.Name(message.network)],
        port_mappings=tuple(
            PortMapping(each.host_port, each.container_port, each.protocol if each.HasField("protocol") else None)
            for each in message.port_mappings
        ),
        privileged=message.privileged,
        parameters=tuple((each.key, each.value) for each in message.parameters),
        force_pull_image=message.force_pull_image,
        volume_driver=message.volume_driver if message.HasField("volume_driver") else None,
    )


def _unsupported(field: str, instead: str) -> ContainerError:
    return ContainerError(f"container.{field} is not supported in a container of the type DOCKER", instead)
