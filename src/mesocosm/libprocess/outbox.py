"""Messages that go out: to each process over one connection, in their order."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

import aiohttp
from google.protobuf.message import Message

from mesocosm.api import internal
from mesocosm.bodies import read_up_to
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import AGENT, AGENT_PREFIX, FROM

logger = logging.getLogger(__name__)

_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=30.0)
"""Seconds to connect, and to be answered, after which the other process counts as gone."""
_IDLE = 86400.0
"""Seconds that a connection is kept: to a process of libprocess, its end is that of its peer."""
_LONGEST = 200
"""Bytes of an answer that are read, which may have no end."""

Lost = Callable[[str], None]
"""Is told that the process at an authority (`ip:port`) cannot be reached; what waited for it is dropped."""


class Outbox:
    """Sends messages in the name of the actor `sender`.

    A message may be lost, as in libprocess: who needs an answer asks again.
    """

    def __init__(self, sender: ActorAddress, lost: Lost | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Connects by TLS if there is a context for it."""
        self.sender = sender
        self._tls = tls
        self._lost = lost
        self._session: aiohttp.ClientSession | None = None
        self._waiting: dict[str, deque[tuple[ActorAddress, Message]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def send(self, to: ActorAddress, message: Message) -> None:
        """Has the message sent after those that were given before."""
        if to.is_nobody:
            return
        self._waiting.setdefault(to.authority, deque()).append((to, message))
        if to.authority not in self._tasks:
            self._tasks[to.authority] = asyncio.create_task(self._work_off(to.authority))

    async def flush(self) -> None:
        """Returns when all that was given is sent, or lost."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Drops what waits, and closes the connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _work_off(self, authority: str) -> None:
        waiting = self._waiting[authority]
        try:
            while waiting:
                try:
                    await self._post(*waiting.popleft())
                except (aiohttp.ClientError, TimeoutError) as error:
                    logger.debug("%s is lost: %s", authority, error)
                    waiting.clear()
                    if self._lost is not None:
                        self._lost(authority)
        finally:
            del self._tasks[authority], self._waiting[authority]

    async def _post(self, to: ActorAddress, message: Message) -> None:
        """Raises aiohttp.ClientError or TimeoutError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=1, keepalive_timeout=_IDLE, ssl=self._tls or True
                ),
                headers={AGENT: f"{AGENT_PREFIX}{self.sender}", FROM: str(self.sender)},
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
                timeout=_PATIENCE,
            )
        name = internal.name_of(message)
        url = f"http{'' if self._tls is None else 's'}://{to.authority}/{to.name}/{name}"
        # Whom a message is for, it does not say where else to send it: that may be somebody who trusts the sender.
        body = message.SerializeToString() or None
        async with self._session.post(url, data=body, allow_redirects=False) as answer:
            if answer.status != HTTPStatus.ACCEPTED:
                text = (await read_up_to(answer.content, _LONGEST)).decode(errors="replace")
                logger.warning("%s answers %s with %d: %s", to, name, answer.status, text)
