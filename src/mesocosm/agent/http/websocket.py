"""A WebSocket (RFC 6455) as those who talk by it see it, and how a request becomes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import WSMsgType, web

_MOST_BYTES = 1 << 16
"""Of one message that comes. What is pasted comes in several."""
_HEARTBEAT = 30.0
"""Seconds after which a client is asked whether it is there; one that does not say so in half the time is gone."""
_FAREWELL = 1.0


class WebSocket(Protocol):
    """A connection that both sides send messages by: bytes, or text."""

    async def receive(self) -> bytes | str | None:
        """The next message; None when the other side is gone."""

    async def send(self, message: bytes | str) -> None:
        """Returns when there is room for more. Raises ConnectionError."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is said by a WebSocket of that protocol: all of it, until `talk` returns."""

    protocol: str
    talk: Callable[[WebSocket], Awaitable[None]]


class _Connection:
    def __init__(self, response: web.WebSocketResponse) -> None:
        self._response = response

    async def receive(self) -> bytes | str | None:
        message = await self._response.receive()
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
            data: bytes | str = message.data
            return data
        return None  # Closed, damaged, or more than may come at once.

    async def send(self, message: bytes | str) -> None:
        await (self._response.send_bytes(message) if isinstance(message, bytes) else self._response.send_str(message))


async def converse(request: web.BaseRequest, conversation: Conversation) -> web.StreamResponse:
    """Makes a WebSocket of a request, and talks by it. What is no such request is answered with 400."""
    response = web.WebSocketResponse(
        protocols=(conversation.protocol,),
        heartbeat=_HEARTBEAT,
        max_msg_size=_MOST_BYTES,
        compress=False,
        timeout=_FAREWELL,
    )
    try:
        await response.prepare(request)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=error.text)
    try:
        await conversation.talk(_Connection(response))
    finally:
        await response.close()
    return response
