"""The networks of containers: what is asked for, and what came of it. Names are those of `mesos.proto`."""

from __future__ import annotations

from mesocosm.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host, from which connections come to a port of the container (`NetworkInfo.PortMapping`)."""

    host_port: int
    container_port: int
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class IPAddress:
    """An address of a container, or one that is asked for; without `ip_address`, any of the `protocol`."""

    protocol: str = "IPv4"
    ip_address: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A name, and mostly a value (`Label` of mesos.proto)."""

    key: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """A network that a container joins by its `name`, and what it asks for there. Without a name: the host's."""

    name: str | None = None
    ip_addresses: tuple[IPAddress, ...] = ()
    groups: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    port_mappings: tuple[PortMapping, ...] = ()
