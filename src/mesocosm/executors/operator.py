"""What an executor asks of its agent besides the executor API: containers nested in its own, by the v1 operator API."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator

from mesocosm.api.recordio import Decoder
from mesocosm.executors.settings import Settings
from mesocosm.executors.statuses import Json

_TARGET = "/api/v1"
_OK, _NOT_READY = 200, 503
_PAUSE = 1.0
"""Seconds from one attempt to the next, at most."""


class Refused(Exception):
    """The agent does not do what it was asked; the text is its reason."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or f"the agent answered {status}")
        self.status = status


class Operator:
    """Sends calls, each by a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def call(self, call: Json) -> Json:
        """The answer. Raises OSError where there is none, and Refused."""
        async with await self._settings.connect() as connection:
            body = json.dumps(call).encode()
            response = await connection.request("POST", _TARGET, self._settings.headers, body)
            data = await response.read()
        if response.status not in (200, 202):
            raise Refused(response.status, data.decode(errors="replace"))
        try:
            answer: Json = json.loads(data) if data else {}
        except ValueError as error:
            raise ConnectionError(f"the agent answers what is no JSON: {error}") from error
        return answer

    async def listen(self, call: Json) -> AsyncGenerator[Json, None]:
        """The messages of an answer that goes on. Raises OSError where it breaks off, and Refused."""
        async with await self._settings.connect() as connection:
            response = await connection.request("POST", _TARGET, self._settings.headers, json.dumps(call).encode())
            if response.status != _OK:
                raise Refused(response.status, (await response.read()).decode(errors="replace"))
            decoder = Decoder()
            async for part in response.body:
                try:
                    for record in decoder.feed(part):
                        yield json.loads(record)
                except ValueError as error:
                    raise ConnectionError(f"the agent answers what is no stream of JSON: {error}") from error

    async def insist(self, call: Json) -> Json:
        """The answer, of the next agent if this one goes or has not recovered. Raises Refused."""
        while True:
            try:
                return await self.call(call)
            except Refused as refused:
                if refused.status != _NOT_READY:
                    raise
            except OSError:
                pass  # It is the client's to say when there will be no agent any more.
            await asyncio.sleep(random.random() * min(self._settings.backoff_max, _PAUSE))
