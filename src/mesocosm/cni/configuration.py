"""The networks that the files of a directory describe: one plugin (`.conf`, `.json`), or a list (`.conflist`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError
from mesocosm.networks import IPAddress, Label, NetworkInfo, PortMapping

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")
"""Of the results that are understood."""
WITH_PREVIOUS = VERSIONS[4:]
"""Those in which CHECK exists, and DEL gets the result of ADD."""
PORT_MAPPER = "mesos-cni-port-mapper"
"""The plugin of Mesos, which finds the ports in `args` and knows no capabilities."""

_SUFFIXES = frozenset({".conf", ".conflist", ".json"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_MESOS = "org.apache.mesos"
_LAST_PORT = 65535

Plugin = Mapping[str, Any]
"""The configuration of one plugin."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network, by the plugins that a container is attached with, in their order."""

    name: str
    version: str
    plugins: tuple[Plugin, ...]
    check: bool = True

    @classmethod
    def parse(cls, text: str | bytes) -> Network:
        """What a file, or `dump`, says. Raises ValueError."""
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        name, version = content.get("name"), content.get("cniVersion", VERSIONS[0])
        plugins = content.get("plugins", [content])
        if not isinstance(name, str) or not is_name(name):
            raise ValueError(f"{name!r} is no name of a network")
        if version not in VERSIONS:
            raise ValueError(f"the cniVersion {version!r} is unknown here; {VERSIONS[-1]} is the newest one")
        if not isinstance(plugins, list) or not plugins or not all(isinstance(plugin, dict) for plugin in plugins):
            raise ValueError("its plugins are no list of objects")
        for plugin in plugins:
            kind = plugin.get("type")
            if not isinstance(kind, str) or "/" in kind or kind in ("", ".", ".."):
                raise ValueError(f"{kind!r} is no type of a plugin")
        return cls(name, version, tuple(plugins), check=content.get("disableCheck") not in (True, "true"))

    def dump(self) -> bytes:
        """As a list of plugins, which `parse` reads."""
        content = {"cniVersion": self.version, "name": self.name, "plugins": self.plugins}
        return json.dumps(content if self.check else {**content, "disableCheck": True}).encode()

    def asked(self, info: NetworkInfo) -> Network:
        """The network with what a container asks of it: for every plugin in `args`, as Mesos does, and by capabilities.

        Raises ContainerError for what no plugin would look at, or what makes no sense.
        """
        _check_ports(info)
        if info.port_mappings and not any(map(_maps_ports, self.plugins)):
            raise ContainerError(
                f"the network {self.name!r} maps no ports",
                'have a plugin in its configuration with "capabilities": {"portMappings": true}, such as portmap',
            )
        return replace(self, plugins=tuple(_asked(plugin, info) for plugin in self.plugins))

    def request(self, plugin: Plugin, previous: Mapping[str, Any] | None) -> bytes:
        """What one of the plugins reads, with the result of the one before it, if there is any."""
        content = {**plugin, "name": self.name, "cniVersion": self.version}
        return json.dumps(content if previous is None else {**content, "prevResult": previous}).encode()


@dataclass(frozen=True, slots=True)
class Found:
    """The networks of a directory by their names, and one line for each file that describes none."""

    networks: dict[str, Network] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def load(directory: Path) -> Found:
    """What the files of `directory` describe; of those with the same name, the first counts. Blocks. Raises OSError."""
    found = Found()
    for path in sorted(directory.iterdir()):
        if path.suffix not in _SUFFIXES or path.is_dir():
            continue
        try:
            network = Network.parse(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            found.problems.append(f"{path}: {error.strerror if isinstance(error, OSError) else error}")
            continue
        if network.name in found.networks:
            found.problems.append(f"{path}: the network {network.name!r} is described by another file, too")
        else:
            found.networks[network.name] = network
    return found


def is_name(value: str) -> bool:
    """Whether CNI has it for a name of a network or a container, which become parts of paths, rules and interfaces."""
    return _NAME.fullmatch(value) is not None


def _maps_ports(plugin: Plugin) -> bool:
    return plugin["type"] == PORT_MAPPER or _has(plugin, "portMappings")


def _has(plugin: Plugin, capability: str) -> bool:
    capabilities = plugin.get("capabilities")
    return isinstance(capabilities, dict) and capabilities.get(capability) is True


def _check_ports(info: NetworkInfo) -> None:
    taken = set()
    for mapping in info.port_mappings:
        where = f"{mapping.host_port}:{mapping.container_port}"
        for port in (mapping.host_port, mapping.container_port):
            if not 0 < port <= _LAST_PORT:
                raise ContainerError(f"the port mapping {where} is none: {port} is no port")
        protocol = _protocol(mapping.protocol)
        if protocol not in _PROTOCOLS:
            raise ContainerError(
                f"the port mapping {where} is for {mapping.protocol!r}", f"write {', '.join(sorted(_PROTOCOLS))}"
            )
        if (mapping.host_port, protocol) in taken:
            raise ContainerError(f"the port {mapping.host_port} of the host is mapped twice")
        taken.add((mapping.host_port, protocol))


def _protocol(text: str | None) -> str:
    return (text or "tcp").lower()


def _asked(plugin: Plugin, info: NetworkInfo) -> Plugin:
    args = plugin.get("args", {})
    if not isinstance(args, dict) or _MESOS in args:
        raise ContainerError(
            f"the configuration of the network {info.name!r} has 'args' that are no object, or have {_MESOS!r} in them",
            "remove that: it is what the container asks for",
        )
    asked = {**plugin, "args": {**args, _MESOS: {"network_info": _message(info)}}}
    values: dict[str, Any] = {}
    if _has(plugin, "portMappings") and info.port_mappings:
        values["portMappings"] = [
            {
                "hostPort": mapping.host_port,
                "containerPort": mapping.container_port,
                "protocol": _protocol(mapping.protocol),
            }
            for mapping in info.port_mappings
        ]
    addresses = [address.ip_address for address in info.ip_addresses if address.ip_address is not None]
    if _has(plugin, "ips") and addresses:
        values["ips"] = addresses
    return {**asked, "runtimeConfig": values} if values else asked


def _message(info: NetworkInfo) -> dict[str, Any]:
    """As Mesos writes the message `NetworkInfo` in JSON."""
    message: dict[str, Any] = {
        "ip_addresses": [_fields(address) for address in info.ip_addresses],
        "name": info.name,
        "groups": list(info.groups),
        "labels": {"labels": [_fields(label) for label in info.labels]} if info.labels else None,
        "port_mappings": [_fields(mapping) for mapping in info.port_mappings],
    }
    return {name: value for name, value in message.items() if value}


def _fields(value: IPAddress | Label | PortMapping) -> dict[str, Any]:
    return {name: known for name in value.__slots__ if (known := getattr(value, name)) is not None}
