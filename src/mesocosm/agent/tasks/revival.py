"""What an earlier agent has left is taken up: its executors are waited for, and told of if they do not come back."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from mesocosm.agent.flags.kinds import show_duration
from mesocosm.agent.tasks.actors import ActorExecutors
from mesocosm.agent.tasks.ended import Verdict
from mesocosm.agent.tasks.executions import Executions
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.links import ActorLink
from mesocosm.agent.tasks.parts import Parts
from mesocosm.agent.tasks.recovery import RecoveredAgent, RecoveredExecutor, RecoveredFramework, RecoveredTask
from mesocosm.agent.tasks.states import is_terminal
from mesocosm.agent.tasks.task import Refused, Stage, Task
from mesocosm.api import v1
from mesocosm.container import ContainerID
from mesocosm.libprocess.address import NOBODY

logger = logging.getLogger(__name__)


class Revival:
    """Fills in the frameworks from the records, and has their executors come back."""

    def __init__(
        self,
        parts: Parts,
        executions: Executions,
        actors: ActorExecutors,
        *,
        timeout: float,
        retry_interval: float | None,
        switch_user: bool,
    ) -> None:
        """In seconds: executors may take `timeout` to come back, and older ones are asked to at that interval."""
        self._parts = parts
        self._executions = executions
        self._actors = actors
        self._timeout = timeout
        self._retry_interval = retry_interval
        self._switch_user = switch_user

    async def take_up(self, found: RecoveredAgent) -> None:
        """Has the frameworks as they were; what nothing belongs to any more is cleared away. Raises OSError."""
        self._parts.registration.slave = found.info
        for path in found.remains:
            self._parts.remains.leave(path)
        for framework in found.frameworks:
            self._take_up_framework(framework)
        known = {executor.container_id for executor in self._parts.frameworks.executors()}
        await self._parts.containers.clear_away(known)

    async def wait(self) -> None:
        """Returns when all executors are back, or the time for that is over: those that are not have to end."""
        for executor in self._missing():
            if isinstance(executor.link, ActorLink):
                executor.link.reconnect(v1.AgentID(value=self._parts.registration.agent_id))
        asking = asyncio.create_task(self._ask_again())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    while self._missing():
                        self._executions.came.clear()
                        await self._executions.came.wait()
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        for executor in self._missing():
            self._give_up(executor)

    async def _ask_again(self) -> None:
        while self._retry_interval is not None:
            await asyncio.sleep(self._retry_interval)
            for executor in self._missing():
                if isinstance(executor.link, ActorLink):
                    executor.link.reconnect(v1.AgentID(value=self._parts.registration.agent_id))

    def _missing(self) -> list[Executor]:
        return [each for each in self._parts.frameworks.executors() if each.state is ExecutorState.REGISTERING]

    def _give_up(self, executor: Executor) -> None:
        framework = self._parts.frameworks.get(executor.framework_id)
        assert framework is not None
        text = f"Executor did not reregister within {show_duration(self._timeout)}"
        logger.warning("the executor %s of the framework %s: %s", executor.id, framework.id, text)
        reason = v1.TaskStatus.REASON_EXECUTOR_REREGISTRATION_TIMEOUT
        self._executions.end(executor, Verdict(framework.gone, reason, text))

    def _take_up_framework(self, found: RecoveredFramework) -> None:
        framework = self._parts.frameworks.add(found.info, "" if found.pid == NOBODY else str(found.pid))
        framework.recorded = True
        for each in found.executors:
            self._take_up_executor(framework, each)
        self._executions.retire_framework(framework, ages_already=True)

    def _take_up_executor(self, framework: Framework, found: RecoveredExecutor) -> None:
        executor = self._executor(framework, found)
        if found.run.is_completed:
            executor.state = ExecutorState.TERMINATED
            framework.completed_executors.append(executor)
            self._parts.remains.leave_executor(framework, executor, ages_already=True)
            return
        if found.run.address is not None:
            executor.link = self._actors.link(found.run.address)
        self._executions.resume(framework, executor)

    def _executor(self, framework: Framework, found: RecoveredExecutor) -> Executor:
        info, run = found.info, found.run
        user = info.command.user if info.command.HasField("user") else framework.info.user
        executor = Executor(
            info,
            framework.id,
            ContainerID(run.container_id),
            self._parts.remains.sandbox(framework.id, info.executor_id.value, run.container_id),
            user or None if self._switch_user else None,
            framework.info.checkpoint,
            found.generated,
            recorded=True,
        )
        for each in run.tasks:
            task, is_known = _task(each)
            executor.tasks[task.id] = task
            if task.stage is Stage.TERMINATED and is_known:
                executor.complete(task)
                self._parts.remains.leave_task(executor, task, ages_already=True)
        return executor


def _task(found: RecoveredTask) -> tuple[Task, bool]:
    """A task in the state that its updates say, and whether the master knows how it ended."""
    task = Task(found.info, stage=Stage.LAUNCHED, recorded=True)
    for update in found.updates:
        try:
            task.take_on(update.status)
        except Refused as refusal:
            logger.warning("the task %s does not become what is on record: %s", task.id, refusal)
            continue
        if is_terminal(update.status.state):
            return task, update.uuid in found.acknowledged
    return task, False
