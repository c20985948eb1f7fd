"""An executor's link to its agent: events come in, updates go out (Mesos: docs/executor-http-api.md).

The link is made again when it breaks, and with it goes everything that the agent has not acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any

from mesocosm.api.recordio import Decoder
from mesocosm.executors.http import Connection, Response
from mesocosm.executors.settings import ExecutorError, Settings
from mesocosm.executors.statuses import Json
from mesocosm.executors.tasks import id_of

_TARGET = "/api/v1/executor"
_HEARTBEAT = 30 * 60
"""Seconds between two of the executor's, by which an agent knows that a quiet connection is in use."""
_LATER = (404, 503)
"""What an agent says that has not come up, or recovered yet."""
_GREATEST = 64 << 20
"""Bytes of an event: a group of tasks may bring much with it."""


class Client:
    """Subscribes one executor, and stays subscribed."""

    def __init__(self, settings: Settings, handle: Callable[[Json], None]) -> None:
        """`handle` is called for every event."""
        self._settings = settings
        self._handle = handle
        self._tasks: dict[str, Json] = {}
        self._updates: dict[str, Json] = {}
        self._calls: asyncio.Queue[Json] = asyncio.Queue()
        self._subscribed = False

    async def run(self) -> None:
        """Returns when the agent is gone: at once, or if the framework checkpoints, after the time for its recovery.

        Raises ExecutorError if it does not want this executor.
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        deadline = loop.time() + settings.recovery_timeout
        while True:
            try:
                await self._converse()
            except OSError as error:
                if not settings.checkpoint:
                    raise ExecutorError(f"the agent is gone: {error}") from error
            if self._subscribed:
                self._subscribed, deadline = False, loop.time() + settings.recovery_timeout
            if loop.time() >= deadline:
                raise ExecutorError(f"the agent is gone for more than {settings.recovery_timeout:g} s")
            await asyncio.sleep(min(random.random() * settings.backoff_max, deadline - loop.time()))

    @property
    def acknowledged(self) -> bool:
        """Whether the agent has acknowledged all that it was told."""
        return not self._updates

    def accept(self, task: Json) -> None:
        """Remembers a task, which an agent is told of again until it has acknowledged an update of it."""
        self._tasks[id_of(task)] = task

    def update(self, status: Json) -> None:
        """Tells the agent, now or when it is back, and again until it has acknowledged that."""
        update = {"status": status}
        self._updates[status["uuid"]] = update
        self._send({"type": "UPDATE", "update": update})

    def _send(self, call: Json) -> None:
        if self._subscribed:
            self._calls.put_nowait(call)

    async def _converse(self) -> None:
        """A connection for events, and others for calls, until one of them breaks. Raises OSError, ExecutorError."""
        async with await self._settings.connect() as events:
            subscribe = {
                "unacknowledged_tasks": list(self._tasks.values()),
                "unacknowledged_updates": list(self._updates.values()),
            }
            response = await self._post(events, {"type": "SUBSCRIBE", "subscribe": subscribe})
            if response.status in _LATER:
                return
            if response.status != 200:
                raise ExecutorError(f"the agent does not accept the executor: {await _reason(response)}")
            self._calls = asyncio.Queue()
            self._subscribed = True
            await _until_one_ends(self._receive(response), self._forward(), self._beat())

    async def _receive(self, response: Response) -> None:
        decoder = Decoder(_GREATEST)
        async for part in response.body:
            try:
                events = [json.loads(record) for record in decoder.feed(part)]
            except ValueError as error:
                raise ConnectionError(f"the agent sends what is no event: {error}") from error
            for event in events:
                if event["type"] == "ACKNOWLEDGED":
                    self._forget(event["acknowledged"])
                self._handle(event)

    def _forget(self, acknowledged: Json) -> None:
        self._updates.pop(acknowledged["uuid"], None)
        self._tasks.pop(id_of(acknowledged), None)

    async def _forward(self) -> None:
        """Sends what there is to say, in order. Raises OSError.

        No connection is kept for later: the agent closes one that is idle, and that it does may not be known in time.
        """
        while True:
            call = await self._calls.get()
            async with await self._settings.connect() as connection:
                await self._say(connection, call)
                while not self._calls.empty():
                    await self._say(connection, self._calls.get_nowait())

    async def _say(self, connection: Connection, call: Json) -> None:
        response = await self._post(connection, call)
        reason = await _reason(response)
        if response.status in _LATER:
            raise ConnectionError(f"the agent is not ready: {reason}")
        if response.status != 202:
            say(f"the agent does not accept {call['type']}: {reason}")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT)
            self._send({"type": "HEARTBEAT"})

    async def _post(self, connection: Connection, call: Json) -> Response:
        settings = self._settings
        named = {
            "executor_id": {"value": settings.executor_id},
            "framework_id": {"value": settings.framework_id},
            **call,
        }
        return await connection.request("POST", _TARGET, settings.headers, json.dumps(named).encode())


async def _reason(response: Response) -> str:
    """The status and the text of an answer. Raises OSError."""
    return f"{response.status} {(await response.read()).decode(errors='replace')}".rstrip()


async def _until_one_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Does all at the same time, until the first has ended or failed, and then none of it."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


def say(text: str) -> None:
    """Writes a line to the executor's stderr, which is a file of its sandbox."""
    os.write(2, f"mesocosm: {text}\n".encode())
