"""The files of the host's that a container in other networks needs of its own: /etc/hosts, hostname, resolv.conf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesocosm.cni.result import Dns, Result
from mesocosm.errors import ContainerError, FlagError

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_LONGEST = 63
_LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
_OWN_ADDRESS = "127.0.1.1"
"""Of the host itself, where it has no other that lasts (hostname(1) of Debian)."""


class DefaultDns:
    """`--default_container_dns`: name servers for networks whose plugins tell none."""

    def __init__(self, flag: Mapping[str, Any] | None) -> None:
        """Raises FlagError."""
        self._of_networks: dict[str | None, Dns] = {}
        entries = (flag or {}).get("mesos", [])
        if not isinstance(entries, list):
            raise FlagError("--default_container_dns: 'mesos' is no list")
        for entry in entries:
            self._add(entry)

    def of(self, network: str) -> Dns:
        """For the network of this name."""
        return self._of_networks.get(network) or self._of_networks.get(None) or Dns()

    def _add(self, entry: object) -> None:
        if not isinstance(entry, dict) or entry.get("network_mode") != "CNI":
            raise FlagError("--default_container_dns: the network_mode of 'mesos' can only be CNI")
        name = entry.get("network_name")
        if name in self._of_networks:
            which = "without a network_name" if name is None else f"for the network {name!r}"
            raise FlagError(f"--default_container_dns has two entries {which}", "remove one of them")
        try:
            self._of_networks[name] = Dns.parse(entry.get("dns") or {})
        except ValueError as error:
            raise FlagError(f"--default_container_dns: {error}") from error


def host_name(asked: str | None, container: str) -> str:
    """The one that is asked for, or else a container's id, as much as a host name can have. Raises ContainerError."""
    if asked is None:
        return container[:_LONGEST].strip("-_.:@+=,~") or "container"
    if not _HOST_NAME.fullmatch(asked):
        raise ContainerError(
            f"{asked!r} is no host name", "use letters, digits, '-' and '.', at most 64, first and last no sign"
        )
    return asked


def hosts(name: str, addresses: Sequence[str]) -> str:
    """The hosts(5) of a container with these addresses."""
    return _LOCAL + "".join(f"{address} {name}\n" for address in addresses or [_OWN_ADDRESS])


def hosts_with(name: str, around: str) -> str:
    """What is in the hosts(5) of whoever it shares the network with, and its own name."""
    return f"{around.rstrip()}\n{_OWN_ADDRESS} {name}\n".lstrip()


def resolver(results: Iterable[tuple[str, Result]], default: DefaultDns) -> Dns:
    """What the plugins of each network say, or else the default for it."""
    dns = Dns()
    for network, result in results:
        dns = dns.joined(result.dns if result.dns.nameservers else default.of(network))
    return dns


def read(path: Path) -> str:
    """The content of a file of the host; nothing where there is no such file."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
