"""Calls of the v1 API that go on: answered by a stream of `ProcessIO` messages, or followed by others of their kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from mesocosm.agent.http.negotiation import MediaTypes
from mesocosm.agent.http.reply import JSON, Reply, bad_request
from mesocosm.api import process_io, recordio
from mesocosm.api.binary import from_bytes
from mesocosm.api.json import from_json, loads
from mesocosm.api.v1.agent import Call

PATIENCE = 30.0
"""Seconds for which a client may take nothing of a stream while there is something for it. Then it is cut."""


class Records:
    """The calls in a request, one in each record, as they come: `async for`, by one who waits at a time."""

    def __init__(self, chunks: AsyncIterator[bytes], media_type: str) -> None:
        self._chunks = chunks
        self._media_type = media_type
        self._decoder = recordio.Decoder()
        self._found: list[bytes] = []

    def __aiter__(self) -> Records:
        return self

    async def __anext__(self) -> Call:
        """Raises RequestError for a record that is no call or not whole, and where the connection breaks."""
        try:
            while not self._found:
                self._found = self._decoder.feed(await self._chunk())
            return decoded(self._found.pop(0), self._media_type)
        except ValueError as error:
            raise bad_request(str(error)) from None

    async def _chunk(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            self._decoder.finish()
            raise


@dataclass(frozen=True, slots=True)
class Exchange:
    """What there is of such a call besides itself: who makes it, in which formats, and what follows it."""

    principal: str | None
    media: MediaTypes
    further: Records | None
    """The calls after the first one, where the request is a stream."""
    transient: bool = False
    """Whether nothing is to be kept of what ends because the client goes away."""

    @property
    def as_json(self) -> bool:
        """Whether the messages of the answer are JSON; else they are protobuf."""
        return JSON in (self.media.accept, self.media.message_accept)

    def reply(self, stream: AsyncGenerator[bytes, None], release: Callable[[], None] | None = None) -> Reply:
        """The answer whose body is `stream`, of whole records; `release` is as in Reply. Who stops reading is cut."""
        message_type = self.media.message_accept
        headers = {} if message_type is None else {"Message-Content-Type": message_type}
        return Reply(content_type=self.media.accept, headers=headers, stream=stream, patience=PATIENCE, release=release)


StreamHandler = Callable[[Call, Exchange], Awaitable[Reply]]
"""Answers such a call. Raises RequestError."""


async def with_heartbeats(
    records: AsyncIterator[bytes], interval: float, *, as_json: bool
) -> AsyncGenerator[bytes, None]:
    """These `records`, and among them every `interval` seconds one that tells that the stream goes on.

    To wait for the next record has to be safe to cancel, which it is not in an async generator: that would end.
    """
    loop, beat = asyncio.get_running_loop(), process_io.heartbeat(interval, as_json=as_json)
    due = loop.time() + interval
    while True:
        try:
            async with asyncio.timeout_at(due):
                record = await anext(records)
        except StopAsyncIteration:
            return
        except TimeoutError:
            record, due = beat, loop.time() + interval
        yield record


def decoded(data: bytes, media_type: str) -> Call:
    """The call that `data` is. Raises ValueError."""
    return from_json(loads(data), Call) if media_type == JSON else from_bytes(data, Call)
