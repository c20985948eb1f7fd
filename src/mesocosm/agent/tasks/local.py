"""Stands in for a master where an agent has none: whoever brings tasks sees what becomes of them, and may end them.

An agent cannot tell the difference: it gets the messages that a master sends, and every update is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

from google.protobuf.message import Message

from mesocosm.agent.tasks.states import is_terminal
from mesocosm.agent.tasks.submission import Submission, new_framework
from mesocosm.api import internal, v1
from mesocosm.master.base import Tasks

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Statuses of one run that wait to be read: some megabytes."""


class LocalMaster:
    """Registers the agent of these `tasks`, and brings it those of its users."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._handlers = tasks.handlers()
        self._runs: dict[str, Run] = {}

    def start(self, slave: internal.SlaveInfo) -> None:
        """Registers the agent as `slave`, by the id that it had before or a new one. Raises OSError."""
        known = self._tasks.slave
        slave.id.value = f"{uuid.uuid4()}-S0" if known is None else known.id.value
        self._tasks.connect(slave, self._receive)

    @property
    def agent_id(self) -> str:
        """What the agent is called."""
        assert self._tasks.slave is not None, "not before start"
        return self._tasks.slave.id.value

    def submit(self, submission: Submission, *, name: str, user: str, principal: str | None = None) -> Run:
        """Has tasks run for a framework of that `name` and `user`. `Run.close` has to be called."""
        framework = new_framework(name, user, principal)
        run = Run(submission, framework, self._send, self._forget)
        self._runs[framework.id.value] = run
        self._send(submission.message(framework))
        return run

    def find(self, framework_id: str, principal: str | None) -> Run | None:
        """The tasks that somebody waits for, if it is `principal` who does."""
        run = self._runs.get(framework_id)
        return run if run is not None and run.principal == principal else None

    def _send(self, message: Message) -> None:
        self._handlers[type(message)](message)

    def _forget(self, framework_id: str) -> None:
        self._runs.pop(framework_id, None)

    def _receive(self, message: Message) -> None:
        if not isinstance(message, internal.StatusUpdateMessage):
            logger.debug("there is no master for %s", message.DESCRIPTOR.name)
            return
        update = message.update
        run = self._runs.get(update.framework_id.value)
        if run is not None:
            run.take(update.status)
        if update.uuid:
            self._send(internal.acknowledgement(update))


class Run:
    """Tasks that somebody waits for."""

    def __init__(
        self,
        submission: Submission,
        framework: v1.FrameworkInfo,
        send: Callable[[Message], Any],
        forget: Callable[[str], None],
    ) -> None:
        self.framework_id: str = framework.id.value
        self.principal = framework.principal if framework.HasField("principal") else None
        self._send = send
        self._forget = forget
        self._unfinished = {task.task_id.value for task in submission.tasks}
        self._statuses: asyncio.Queue[v1.TaskStatus | None] = asyncio.Queue()
        self._last: dict[str, bytes] = {}

    async def statuses(self) -> AsyncGenerator[v1.TaskStatus, None]:
        """What becomes of the tasks, each time once, until all of them have ended, or what waits is too much."""
        while self._unfinished or not self._statuses.empty():
            if (status := await self._statuses.get()) is None:
                return
            if is_terminal(status.state):
                self._unfinished.discard(status.task_id.value)
            yield status

    def kill(self) -> None:
        """Has those killed that have not ended, each in its own way."""
        for task_id in sorted(self._unfinished):
            self._send(internal.KillTaskMessage(framework_id=self._id(), task_id=v1.TaskID(value=task_id)))

    def close(self) -> None:
        """Ends the tasks that have not, and their executors."""
        self._forget(self.framework_id)
        self._send(internal.ShutdownFrameworkMessage(framework_id=self._id()))

    def take(self, status: v1.TaskStatus) -> None:
        """Tells whoever waits, whose tasks end if he does not listen. An update that comes again is no news.

        A task's next update comes when the one before is acknowledged.
        """
        if self._last.get(status.task_id.value) == status.uuid:
            return
        self._last[status.task_id.value] = status.uuid
        if self._statuses.qsize() < MOST_WAITING:
            self._statuses.put_nowait(status)
            return
        logger.warning("the tasks of %s are ended, as nobody reads what becomes of them", self.framework_id)
        self._statuses.put_nowait(None)
        self.close()

    def _id(self) -> v1.FrameworkID:
        return v1.FrameworkID(value=self.framework_id)
