"""The address of an actor: `slave(1)@127.0.0.1:5051`, the UPID of libprocess."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

_PORT_MAXIMUM = 65535


@dataclass(frozen=True, slots=True, order=True)
class ActorAddress:
    """The actor `name` of the process that listens on `ip` and `port`. `str()` is what `parse` reads."""

    name: str
    ip: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is no address. That of nobody, `@0.0.0.0:0`, is one."""
        name, at, rest = text.strip().rpartition("@")
        host, colon, port = rest.rpartition(":")
        if not at or not colon or "/" in name or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAXIMUM:
            raise ValueError(f"{text!r} is no address of an actor, such as slave(1)@127.0.0.1:5051")
        return cls(name, str(ipaddress.ip_address(host.strip("[]"))), int(port))

    @property
    def is_nobody(self) -> bool:
        """Whether nothing can be sent there: frameworks that speak HTTP have such an address."""
        return self.port == 0

    @property
    def authority(self) -> str:
        """Where its process listens, as URLs have it."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def __str__(self) -> str:
        return f"{self.name}@{self.authority}"


async def host_name(ip: str) -> str:
    """What an address is called; that itself where it has no name."""
    with contextlib.suppress(OSError):
        name, _ = await asyncio.get_running_loop().getnameinfo((ip, 0), socket.NI_NAMEREQD)
        return name
    return ip


NOBODY = ActorAddress("", "0.0.0.0", 0)
"""Where a framework is that speaks HTTP, in messages and records that need an address."""
