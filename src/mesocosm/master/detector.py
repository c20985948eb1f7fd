"""Finding the master: at an address that is given, or as the leader of those that ZooKeeper knows."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from mesocosm.errors import FlagError, MasterError
from mesocosm.libprocess.address import ActorAddress

NAME = "master"
"""What the actor of a master is called."""

_ZOOKEEPER = "zk://"
_HINT = "write HOST:PORT or zk://HOST:PORT,…/PATH"


class Detector(Protocol):
    """Knows which master leads."""

    async def reachable(self) -> str:
        """A host on the way to masters, by name or IP: the agent listens on the address that reaches it."""

    async def detect(self, previous: ActorAddress | None) -> ActorAddress | None:
        """The leading master when that is another one than `previous`; None: there is none. Raises MasterError."""

    async def close(self) -> None:
        """Stops to look."""


def create_detector(master: str, session_timeout: float) -> Detector:
    """What finds the `master` that the flag names; a session with ZooKeeper ends after so many seconds unheard.

    Raises FlagError.
    """
    master = master.strip()
    if master.startswith(_ZOOKEEPER):
        from mesocosm.master.zookeeper import ZooKeeperDetector, ZooKeeperUrl

        return ZooKeeperDetector(ZooKeeperUrl.parse(master.removeprefix(_ZOOKEEPER)), session_timeout)
    host, colon, port = master.removeprefix(f"{NAME}@").rpartition(":")
    host = host.strip("[]")
    if not host or not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16 or "/" in host:
        raise FlagError(f"--master: {master!r} is no address of a master", _HINT)
    return StandaloneDetector(host, int(port))


class StandaloneDetector:
    """The master at one address, which leads whether it is there or not."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._leader: ActorAddress | None = None

    async def reachable(self) -> str:
        """The host of the master."""
        return self._host

    async def detect(self, previous: ActorAddress | None) -> ActorAddress | None:
        """The master; for ever nothing if that is `previous`, as no other will ever lead. Raises MasterError."""
        if self._leader is None:
            self._leader = ActorAddress(NAME, await _resolve(self._host), self._port)
        if self._leader == previous:
            await asyncio.get_running_loop().create_future()
        return self._leader

    async def close(self) -> None:
        """There is nothing to stop."""


async def _resolve(host: str) -> str:
    """The IP address of a host, of version 4 if it has one, as masters have. Raises MasterError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise MasterError(f"--master: {host!r} cannot be found: {error.strerror or error}") from error
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


async def local_address(detector: Detector) -> str:
    """The address of this machine from which masters are reached, and which therefore they can reach.

    Raises MasterError.
    """
    target = await _resolve(await detector.reachable())
    # Nothing is sent: to connect a socket for datagrams looks for a way and keeps its near end (udp(7)).
    with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
        except OSError as error:
            raise MasterError(
                f"--master: there is no way to {target}: {error.strerror or error}",
                "give --ip, the address that masters reach the agent at",
            ) from error
        return str(probe.getsockname()[0])
