"""Networks, asked for and had."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.networks import IPAddress, Label, NetworkInfo, PortMapping


def network_info(message: v1.NetworkInfo) -> NetworkInfo:
    """A network to join, or that a container is in."""
    return NetworkInfo(
        name=message.name if message.HasField("name") else None,
        ip_addresses=tuple(
            IPAddress(
                v1.NetworkInfo.Protocol.Name(address.protocol),
                address.ip_address if address.HasField("ip_address") else None,
            )
            for address in message.ip_addresses
        ),
        groups=tuple(message.groups),
        labels=tuple(
            Label(label.key, label.value if label.HasField("value") else None) for label in message.labels.labels
        ),
        port_mappings=tuple(
            PortMapping(
                mapping.host_port, mapping.container_port, mapping.protocol if mapping.HasField("protocol") else None
            )
            for mapping in message.port_mappings
        ),
    )


def network_info_message(value: NetworkInfo) -> v1.NetworkInfo:
    """The inverse."""
    message = v1.NetworkInfo(name=value.name, groups=value.groups)
    for address in value.ip_addresses:
        protocol = v1.NetworkInfo.Protocol.Value(address.protocol)
        message.ip_addresses.add(protocol=protocol, ip_address=address.ip_address)
    for label in value.labels:
        message.labels.labels.add(key=label.key, value=label.value)
    for mapping in value.port_mappings:
        message.port_mappings.add(
            host_port=mapping.host_port, container_port=mapping.container_port, protocol=mapping.protocol
        )
    return message
