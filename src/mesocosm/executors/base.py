"""What executors have in common: their agent, what it asks of them, and their end."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from mesocosm.executors.client import Client, say
from mesocosm.executors.processes import Children
from mesocosm.executors.settings import ExecutorError, Settings
from mesocosm.executors.statuses import Json
from mesocosm.executors.tasks import id_of

_FAILED = 1
_ACKNOWLEDGED_WITHIN = 60.0
"""Seconds that an executor which has nothing to run any more waits for the agent to acknowledge that."""


class Executor(ABC):
    """An executor. `ended` becomes its exit status, when nothing runs any more and the agent knows everything."""

    def __init__(self, settings: Settings, children: Children) -> None:
        self.settings = settings
        self.children = children
        self.client = Client(settings, self._handle)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.container_id: Json = {}
        self._framework: Json = {}

    @property
    def tells_of_kills(self) -> bool:
        """Whether the framework knows the state TASK_KILLING."""
        return {"type": "TASK_KILLING_STATE"} in self._framework.get("capabilities", ())

    def _handle(self, event: Json) -> None:
        kind = event["type"]
        fields = event.get(kind.lower(), {})
        if kind == "SUBSCRIBED":
            self._framework = fields["framework_info"]
            self.container_id = fields.get("container_id", {})
        elif kind == "LAUNCH":
            self.launch(fields["task"])
        elif kind == "LAUNCH_GROUP":
            self.launch_group(fields["task_group"]["tasks"])
        elif kind == "KILL":
            self.kill(id_of(fields), fields)
        elif kind == "ACKNOWLEDGED":
            self.end_if_done()
        elif kind == "SHUTDOWN":
            self.shut_down()
        elif kind == "ERROR":
            say(f"the agent: {fields.get('message')}")

    def launch(self, task: Json) -> None:
        """A task is to run."""
        say("a single task is not for this executor")
        self.shut_down()

    def launch_group(self, tasks: Sequence[Json]) -> None:
        """Tasks are to run, all or none."""
        say("a group of tasks is not for this executor")
        self.shut_down()

    @abstractmethod
    def kill(self, task_id: str, kill: Json) -> None:
        """A task is to be ended."""

    @abstractmethod
    def shut_down(self) -> None:
        """All tasks are to be ended, and then the executor."""

    @abstractmethod
    def abandon(self) -> None:
        """The agent is gone for good: the executor is to end, and to take its tasks along."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is nothing to run any more."""

    def end_if_done(self) -> None:
        """Ends the executor as soon as nothing is to be said any more, or after a while."""
        if not self.done:
            return
        if self.client.acknowledged:
            self.end(0)
        else:
            asyncio.get_running_loop().call_later(_ACKNOWLEDGED_WITHIN, self.end, _FAILED)

    def end(self, status: int = _FAILED) -> None:
        """Ends the executor."""
        if not self.ended.done():
            self.ended.set_result(status)


def run(create: Callable[[Settings, Children], Executor]) -> int:
    """Is an executor, until its end; returns its exit status."""
    try:
        return asyncio.run(live(Settings.take(os.environ), create))
    except ExecutorError as error:
        say(str(error))
        return _FAILED


async def live(settings: Settings, create: Callable[[Settings, Children], Executor]) -> int:
    """The life of an executor; returns its exit status. Raises ExecutorError."""
    with Children() as children:
        executor = create(settings, children)
        link = asyncio.ensure_future(executor.client.run())
        waits: list[asyncio.Future[Any]] = [link, executor.ended]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if link.done():
            executor.abandon()
            await executor.ended
            link.result()
        link.cancel()
        return executor.ended.result()
