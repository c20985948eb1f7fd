"""What becomes of tasks: from executors, or from the agent itself, by way of the disk to the master."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from mesocosm.agent.tasks.ended import Verdict
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.parts import Parts
from mesocosm.agent.tasks.states import is_terminal
from mesocosm.agent.tasks.task import Refused, Stage, Task
from mesocosm.agent.tasks.updates import StatusUpdates
from mesocosm.api import convert, internal, v1
from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError

logger = logging.getLogger(__name__)

_UUID = 16
_RETRY = 10.0
"""Seconds between attempts to write to a disk that has no room."""


class Statuses:
    """Takes updates, completes them, and has them forwarded and acknowledged."""

    def __init__(
        self,
        parts: Parts,
        update_failed: Callable[[Framework, Executor, Exception], None],
    ) -> None:
        """`update_failed` is told of a container whose resources could not be changed."""
        self.updates = StatusUpdates(self._forward)
        self._parts = parts
        self._update_failed = update_failed

    def from_executor(self, framework_id: str, executor_id: str, update: internal.StatusUpdate) -> None:
        """Takes what an executor has to say of a task; the executor is told when it is on the disk.

        One that nobody could acknowledge, or is of another agent, a framework that is not there or a task of another
        executor, is dropped.
        """
        framework = self._parts.frameworks.get(framework_id)
        problem = self._problem(framework, executor_id, update)
        if framework is None or problem is not None:
            logger.warning("an update of the task %s is dropped: %s", update.status.task_id.value, problem)
            self._parts.counters.invalid_status_updates += 1
            return
        update.executor_id.value = update.status.executor_id.value = executor_id
        update.status.uuid = update.uuid
        update.status.source = v1.TaskStatus.SOURCE_EXECUTOR
        self._take(framework, update)

    def from_agent(self, framework: Framework, task_id: str, verdict: Verdict, executor_id: str | None = None) -> None:
        """Says of a task what the agent knows. It is true at once for one that was not given to its executor."""
        if framework.terminating:
            return
        update = self._parts.registration.update(framework.id, task_id, verdict, executor_id)
        self._take(framework, update)

    def of_unknown(self, framework_id: str, task_id: str, verdict: Verdict) -> None:
        """Says of a task that nobody here knows what has become of it."""
        update = self._parts.registration.update(framework_id, task_id, verdict)
        self._parts.background.spawn(self._forward_unknown(None, update))

    def _problem(self, framework: Framework | None, executor_id: str, update: internal.StatusUpdate) -> str | None:
        agent_id = self._parts.registration.agent_id
        if len(update.uuid) != _UUID:
            return "it has no UUID"
        if {update.slave_id.value, update.status.agent_id.value} != {agent_id}:
            return f"it is not of the agent {agent_id}"
        if framework is None:
            return f"there is no framework {update.framework_id.value}"
        owner = framework.executor_of(update.status.task_id.value)
        if owner is not None and owner.id != executor_id:
            return f"it is a task of the executor {owner.id}, and not of {executor_id}"
        return f"the framework {framework.id} is terminating" if framework.terminating else None

    def _take(self, framework: Framework, update: internal.StatusUpdate) -> None:
        self._parts.counters.valid_status_updates += 1
        self._parts.drain.change(update.status, partition_aware=framework.is_partition_aware)
        status = update.status
        executor = framework.executor_of(status.task_id.value)
        if executor is None:
            executor = framework.executors.get(update.executor_id.value)
            if executor is not None and executor.has_completed(status.task_id.value):
                logger.warning("the task %s had ended before it was %s", status.task_id.value, _name(status))
                self._acknowledge(executor, update)
                return
            logger.warning("the task %s is unknown, and %s", status.task_id.value, _name(status))
            self._parts.background.spawn(self._forward_unknown(executor, update))
            return
        task = executor.tasks[status.task_id.value]
        never_ran = task.stage is Stage.QUEUED and is_terminal(status.state)
        if never_ran:
            self._change(task, status)
        self._parts.background.spawn(self._process(framework, executor, task, update, changed=never_ran))

    async def _forward_unknown(self, executor: Executor | None, update: internal.StatusUpdate) -> None:
        await self.updates.update(update, None)
        if executor is not None and update.status.source == v1.TaskStatus.SOURCE_EXECUTOR:
            self._acknowledge(executor, update)

    async def _process(
        self, framework: Framework, executor: Executor, task: Task, update: internal.StatusUpdate, *, changed: bool
    ) -> None:
        """From the update to its acknowledgement by the agent. `changed`, if the task is in that state already."""
        async with executor.turn:
            status = update.status
            if not changed:
                await self._add_container_status(executor, task, status)
            self._parts.hooks.complete(framework.id, status)
            try:
                if not changed:
                    self._change(task, status)
            except Refused as refusal:
                logger.warning("the task %s does not become %s: %s", task.id, _name(status), refusal)
                self._acknowledge(executor, update)
                return
            if task.stage is Stage.TERMINATED:
                self._parts.remains.show_volumes(framework, executor)
                await self._shrink(framework, executor)
            await self._keep(update, self._parts.recorder.updates_of(executor, task))
            self._acknowledge(executor, update)

    async def _keep(self, update: internal.StatusUpdate, record: Path | None) -> None:
        """Has the update on the disk, however long it takes that to have room: the task is in that state already."""
        while True:
            try:
                await self.updates.update(update, record)
            except OSError as error:
                logger.error("what became of the task %s is not recorded: %s", update.status.task_id.value, error)
                await asyncio.sleep(_RETRY)
            else:
                return

    def _change(self, task: Task, status: v1.TaskStatus) -> None:
        """Raises Refused."""
        task.take_on(status)
        if task.stage is Stage.TERMINATED:
            self._parts.counters.ended[status.state] += 1
            logger.info("the task %s is %s: %s", task.id, _name(status), status.message or "no message")

    async def _add_container_status(self, executor: Executor, task: Task, status: v1.TaskStatus) -> None:
        """Says in which container the task is, and where that can be reached: at the agent's address, mostly."""
        by_agent = status.source == v1.TaskStatus.SOURCE_AGENT
        if by_agent and status.state in (v1.TASK_DROPPED, v1.TASK_LOST):
            return
        found = await self._parts.containers.status(_container_of(executor, status))
        if found is None:
            return
        described = convert.container_status(found)
        if status.container_status.network_infos:
            described.ClearField("network_infos")  # Its executor has told that, as that of Docker does.
        status.container_status.MergeFrom(described)
        if not status.container_status.network_infos:
            status.container_status.network_infos.append(self._parts.registration.network_info())

    async def _shrink(self, framework: Framework, executor: Executor) -> None:
        """Takes back from the container what its task had."""
        if executor.ending:
            return
        try:
            await self._parts.containers.update(executor)
        except Exception as error:  # noqa: BLE001 - the container ends then, and its tasks are told why.
            self._update_failed(framework, executor, error)

    def _acknowledge(self, executor: Executor, update: internal.StatusUpdate) -> None:
        if executor.link is not None and update.status.source == v1.TaskStatus.SOURCE_EXECUTOR:
            executor.link.acknowledge(update)

    def _forward(self, update: internal.StatusUpdate) -> None:
        """Tells the master, with what the task has become meanwhile."""
        sent = internal.StatusUpdate()
        sent.CopyFrom(update)
        framework = self._parts.frameworks.get(update.framework_id.value)
        task = None if framework is None else framework.find_task(update.status.task_id.value)
        if task is not None:
            task.message.status_update_state = update.status.state
            task.message.status_update_uuid = update.uuid
            sent.latest_state = task.message.state
        self._parts.registration.tell(
            internal.StatusUpdateMessage(update=sent, pid=str(self._parts.registration.address))
        )


def _container_of(executor: Executor, status: v1.TaskStatus) -> ContainerID:
    """The container of a task: one nested in the executor's, if it says so. Of others it is told nothing."""
    if status.container_status.HasField("container_id"):
        with contextlib.suppress(ContainerError):
            named = convert.container_id(status.container_status.container_id)
            if named.root == executor.container_id:
                return named
        status.container_status.ClearField("container_id")
    return executor.container_id


def _name(status: v1.TaskStatus) -> str:
    return v1.TaskState.Name(status.state)
