"""The leading master, as ZooKeeper knows it: each master has an ephemeral node, and the oldest one leads.

The nodes are called LABEL_SEQUENCE; the label says how the data is written. `json.info` is `MasterInfo` as JSON, and
the only one that masters have written since Mesos 0.24. Others below the path have other names, such as `log_replicas`.
Source: `src/zookeeper/group.cpp`, `src/master/detector/zookeeper.cpp`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.hosts import collect_hosts
from kazoo.retry import KazooRetry

from mesocosm.errors import FlagError, MasterError
from mesocosm.libprocess.address import ActorAddress

logger = logging.getLogger(__name__)

_LABEL = "json.info"
_MEMBER = re.compile(r"(?:(?P<label>.*)_)?(?P<sequence>\d{10})")
_INTERRUPTED = (ConnectionClosedError, ConnectionLoss, OperationTimeoutError, SessionExpiredError)
_LONGEST_PAUSE = 10.0
"""Seconds between attempts to connect, at most."""


@dataclass(frozen=True, slots=True)
class ZooKeeperUrl:
    """Where a group of masters is: `hosts` as HOST:PORT with commas between, and `path`."""

    hosts: str
    path: str
    credential: str | None = field(default=None, repr=False)
    """`USER:PASSWORD`, for the scheme `digest`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `[USER:PASSWORD@]HOST[:PORT],…/PATH`, what comes after `zk://`. Raises FlagError."""
        servers, slash, path = text.partition("/")
        credential, at, hosts = servers.rpartition("@")
        shown = f"zk://{hosts}{slash}{path}"
        try:
            collect_hosts(hosts)
        except ValueError as error:
            raise FlagError(f"--master: {shown!r}: {error}", "write zk://HOST:PORT,…/PATH") from None
        path = slash + path.rstrip("/")
        if len(path) < 2 or "//" in path:
            raise FlagError(f"--master: {shown!r} has no path", "write zk://HOST:PORT,…/PATH, with the masters' path")
        if at and not all(credential.partition(":")):
            raise FlagError(f"--master: who shall log in at {shown!r} is not USER:PASSWORD")
        return cls(hosts, path, credential if at else None)


class ZooKeeperDetector:
    """Follows the nodes of the masters. The client has threads of its own, which only ever wake the loop.

    Without a connection what was known holds until the session must have ended; then there is no master.
    """

    def __init__(self, url: ZooKeeperUrl, session_timeout: float) -> None:
        self._url = url
        self._session_timeout = session_timeout
        self._changed = asyncio.Event()
        self._client: Any = None

    async def reachable(self) -> str:
        """The first host of ZooKeeper."""
        return str(collect_hosts(self._url.hosts)[0][0][0])

    async def detect(self, previous: ActorAddress | None) -> ActorAddress | None:
        """The master whose node is the oldest when that is another one than `previous`. Raises MasterError."""
        if self._client is None:
            self._client = self._start()
        while True:
            leader = await self._leader()
            if leader != previous:
                return leader
            await self._change()

    async def close(self) -> None:
        """Ends the session."""
        if self._client is not None:
            client, self._client = self._client, None
            await asyncio.to_thread(_stop, client)

    def _start(self) -> Any:
        retry = KazooRetry(max_tries=-1, max_delay=_LONGEST_PAUSE)
        client = KazooClient(
            hosts=self._url.hosts,
            timeout=self._session_timeout,
            connection_retry=retry,
            auth_data=None if self._url.credential is None else [("digest", self._url.credential)],
            logger=logging.getLogger(f"{__name__}.kazoo"),
        )
        wake = self._waker()

        def follow(state: str) -> None:
            logger.info("ZooKeeper: the session is %s", state.lower())
            wake()

        client.add_listener(follow)
        client.start_async()
        return client

    def _waker(self) -> Any:
        """What the client's threads call, with whatever arguments, where something has changed."""
        loop, changed = asyncio.get_running_loop(), self._changed

        def wake(*_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        return wake

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _leader(self) -> ActorAddress | None:
        try:
            async with asyncio.timeout(self._session_timeout):
                while True:
                    while self._client.state != KazooState.CONNECTED:
                        await self._change()
                    try:
                        return await self._read()
                    except (NoNodeError, *_INTERRUPTED) as error:
                        logger.debug("ZooKeeper: %r; looking again", error)
                        await self._change()
        except TimeoutError:
            logger.warning("ZooKeeper: no connection to %s", self._url.hosts)
            return None
        except KazooException as error:
            raise MasterError(f"--master: ZooKeeper at {self._url.hosts}: {_words(error)}") from error

    async def _read(self) -> ActorAddress | None:
        """The oldest of those that are there now; what changes wakes. Raises KazooException and MasterError."""
        wake, path = self._waker(), self._url.path
        while True:
            try:
                names = await self._ask("get_children", path, watch=wake)
            except NoNodeError:
                if await self._ask("exists", path, watch=wake) is not None:
                    continue
                return None
            if (oldest := _oldest(names)) is None:
                return None
            data, _ = await self._ask("get", f"{path}/{oldest}")
            return _address(oldest, data)

    async def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The result of a call of the client. Raises KazooException."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        result = getattr(self._client, f"{method}_async")(*arguments, **options)

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        result.rawlink(lambda _: loop.call_soon_threadsafe(settle))
        await done
        return result.get_nowait()


def _stop(client: Any) -> None:
    client.stop()
    client.close()


def _oldest(names: Iterable[str]) -> str | None:
    members = [match for match in map(_MEMBER.fullmatch, names) if match is not None]
    return min(members, key=lambda match: int(match["sequence"]))[0] if members else None


def _address(name: str, data: bytes) -> ActorAddress:
    """Where the master of a node is. Raises MasterError."""
    match = _MEMBER.fullmatch(name)
    assert match is not None
    if match["label"] != _LABEL:
        raise MasterError(
            f"--master: {name!r} in ZooKeeper is of a master that writes no {_LABEL}", "use Mesos 0.24 or newer"
        )
    try:
        return ActorAddress.parse(json.loads(data)["pid"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MasterError(f"--master: {name!r} in ZooKeeper is no MasterInfo: {error!r}") from None


def _words(error: KazooException) -> str:
    """An error of ZooKeeper, whose class says what it is: NoAuthError, say."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
