"""What is asked of a container of Docker. Names are those of `ContainerInfo.DockerInfo` (`mesos.proto`)."""

from __future__ import annotations

import enum

from mesocosm.dataclass import dataclass
from mesocosm.networks import PortMapping


class DockerNetwork(enum.Enum):
    """`DockerInfo.Network`: the host's, Docker's bridge, none, or that which `ContainerConfig.networks` names."""

    HOST = "HOST"
    BRIDGE = "BRIDGE"
    NONE = "NONE"
    USER = "USER"


@dataclass(frozen=True, slots=True)
class DockerInfo:
    """The `image`, as `docker pull` names it, and what `docker run` is told beside the rest of the container.

    `parameters` are options of `docker run`, by their names without the dashes. With `volume_driver`, the relative
    `host_path` of a volume is the name of one of that driver. Ports may be those of the container's resources.
    """

    image: str
    network: DockerNetwork = DockerNetwork.HOST
    port_mappings: tuple[PortMapping, ...] = ()
    privileged: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    force_pull_image: bool = False
    volume_driver: str | None = None
