"""From what people write of networks to what a container asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mesocosm.dataclass import dataclass
from mesocosm.errors import FlagError
from mesocosm.networks import NetworkInfo, PortMapping

CONFIGURATIONS = Path("/etc/cni/net.d")
"""Where everybody has them, if nobody says otherwise."""
PLUGINS = "/usr/lib/cni:/opt/cni/bin"
"""Where Debian has the plugins, and where those of the CNI project are installed."""

_ISOLATOR = "network/cni"
_HOST, _NONE = "host", "none"
_PUBLISHED = re.compile(r"(\d{1,5}):(\d{1,5})(?:/(tcp|udp|sctp))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a container; without any it is in that of the host, unless it is to have none."""

    infos: tuple[NetworkInfo, ...] = ()
    loopback_only: bool = False
    hostname: str | None = None

    @property
    def isolators(self) -> tuple[str, ...]:
        """Those that this takes."""
        return (_ISOLATOR,) if self != HOST else ()


HOST = Networks()


def choose(names: Iterable[str] = (), publish: Iterable[str] = (), hostname: str | None = None) -> Networks:
    """Networks by their names, or `host`, or `none`; ports are those of the first. Raises FlagError."""
    named, ports = list(names), tuple(map(_parse_port, publish))
    for special in (_HOST, _NONE):
        if special in named and len(named) > 1:
            raise FlagError(f"--network {special} cannot be together with others", "leave it out")
    joined = [name for name in named if name not in (_HOST, _NONE)]
    if ports and not joined:
        raise FlagError("--publish needs a network that maps ports", "add --network NAME")
    infos = tuple(NetworkInfo(name, port_mappings=ports if not index else ()) for index, name in enumerate(joined))
    return Networks(infos, loopback_only=_NONE in named, hostname=hostname)


def check_described(networks: Sequence[NetworkInfo], directory: Path | None) -> None:
    """Raises FlagError for a network where there are no configurations of any."""
    if networks and directory is None:
        raise FlagError(
            f"--network {networks[0].name}: there are no configurations of networks in {CONFIGURATIONS}",
            "put them there, or give --network-config-dir",
        )


def _parse_port(text: str) -> PortMapping:
    if (match := _PUBLISHED.fullmatch(text)) is None:
        raise FlagError(f"--publish: {text!r} is no mapping of ports", "write HOST:CONTAINER[/udp]")
    return PortMapping(int(match[1]), int(match[2]), match[3])
