"""The lives of executors: launched in their containers, given their tasks, told to end, and cleared away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mesocosm.agent.flags.kinds import show_duration
from mesocosm.agent.tasks.ended import Verdict, verdict
from mesocosm.agent.tasks.environment import ExecutorEnvironment
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.links import Link, Welcome
from mesocosm.agent.tasks.parts import Parts
from mesocosm.agent.tasks.statuses import Statuses
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.agent.tokens import ExecutorClaims, ExecutorTokens
from mesocosm.api import internal, v1
from mesocosm.container import Termination
from mesocosm.errors import MesocosmError, leaves

logger = logging.getLogger(__name__)

_UNKNOWN_STATUS = -1
"""Instead of a status of wait(2), in ExitedExecutorMessage."""


class Executions:
    """One coroutine for the life of each executor."""

    def __init__(
        self,
        parts: Parts,
        statuses: Statuses,
        environment: ExecutorEnvironment,
        registration_timeout: float,
        tokens: ExecutorTokens | None,
        framework_gone: Callable[[], None],
    ) -> None:
        """`registration_timeout` is in seconds. Executors get `tokens`, if there are any.

        `framework_gone` is told when one has no executor any more.
        """
        self._parts = parts
        self._statuses = statuses
        self._environment = environment
        self._registration_timeout = registration_timeout
        self._tokens = tokens
        self._framework_gone = framework_gone
        self._closing = False
        self.came = asyncio.Event()
        """Set when an executor has connected."""

    def close(self) -> None:
        """Leaves the executors as they are."""
        self._closing = True
        for executor in self._parts.frameworks.executors():
            executor.stop_timer()
            if executor.link is not None:
                executor.link.close()

    # From the launch of a container to its end.

    def start(self, framework: Framework, executor: Executor) -> None:
        """Launches the executor, which has its first tasks."""
        framework.executors[executor.id] = executor
        self._parts.remains.show(framework, executor)
        executor.call_later(self._registration_timeout, self._not_registered)
        self._parts.background.spawn(self._live(framework, executor, launched=False))

    def resume(self, framework: Framework, executor: Executor) -> None:
        """Follows an executor that an earlier agent has launched."""
        framework.executors[executor.id] = executor
        self._parts.remains.show(framework, executor)
        self._parts.background.spawn(self._live(framework, executor, launched=True))

    async def _live(self, framework: Framework, executor: Executor, *, launched: bool) -> None:
        termination: Termination | str = Termination(None)
        if launched or await self._launch(framework, executor):
            termination = await self._parts.containers.wait(executor.container_id)
        if not self._closing:
            await self._ended(framework, executor, termination)

    async def _launch(self, framework: Framework, executor: Executor) -> bool:
        """Whether its container runs."""
        try:
            await self._parts.remains.await_removals(framework, executor)
            await self._put_on_record(framework, executor)
            await self._parts.reservations.settled()
            if executor.ending or (executor.generated and not executor.at(Stage.QUEUED)):
                return False  # Also where the one task that it is for was killed meanwhile.
            await self._parts.containers.launch(executor, self._environment_of(executor))
        except Exception as error:
            if not isinstance(error, MesocosmError | OSError | ExceptionGroup):
                logger.error("%s is not launched", executor.container_id, exc_info=error)
            executor.pending = executor.pending or Verdict(
                v1.TASK_FAILED,
                v1.TaskStatus.REASON_CONTAINER_LAUNCH_FAILED,
                f"Failed to launch container: {_line(error)}",
            )
            return False
        if executor.ending and executor.link is None:  # One that had come was told so, and has its time.
            await self._parts.containers.destroy(executor.container_id)
        return True

    async def _put_on_record(self, framework: Framework, executor: Executor) -> None:
        """Waits where the disk is full, unless the executor has to end meanwhile. Raises OSError."""

        async def write() -> None:
            async with executor.turn:
                await self._parts.recorder.write(framework, executor)

        executor.recording = asyncio.create_task(write())
        try:
            await asyncio.wait([executor.recording])
        finally:
            executor.recording.cancel()
        if not executor.recording.cancelled():
            executor.recording.result()

    def _environment_of(self, executor: Executor) -> dict[str, str]:
        return self._environment.of(
            executor.info,
            directory=executor.directory,
            agent_id=self._parts.registration.agent_id,
            agent=self._parts.registration.address,
            checkpoint=executor.checkpoint,
            token=self._token(executor),
        )

    def _token(self, executor: Executor) -> str | None:
        if self._tokens is None:
            return None
        return self._tokens.make(ExecutorClaims(executor.framework_id, executor.id, executor.container_id.value))

    async def _ended(self, framework: Framework, executor: Executor, termination: Termination | str) -> None:
        """Its container is no more: what that makes of its tasks."""
        executor.stop_timer()
        executor.enter(ExecutorState.TERMINATED)
        self.came.set()  # It is not waited for any more.
        self._parts.counters.executors_terminated += 1
        if executor.link is not None:
            executor.link.close()
        status = None if isinstance(termination, str) else termination.status
        logger.info("the executor %s of the framework %s has ended: %s", executor.id, framework.id, status)
        what = verdict(termination, executor.pending)
        for task in executor.at(Stage.QUEUED, Stage.LAUNCHED):
            self._statuses.from_agent(framework, task.id, what, executor.id)
        if not executor.generated:
            self.tell_exited(framework.id, executor.id, status)
        async with executor.turn:  # After what has begun.
            await self.retire(framework, executor)

    def tell_exited(self, framework_id: str, executor_id: str, status: int | None = None) -> None:
        """Tells the master that an executor is not there, whose resources are free then."""
        self._parts.registration.tell(
            internal.ExitedExecutorMessage(
                slave_id=v1.AgentID(value=self._parts.registration.agent_id),
                framework_id=v1.FrameworkID(value=framework_id),
                executor_id=v1.ExecutorID(value=executor_id),
                status=_UNKNOWN_STATUS if status is None else status,
            )
        )

    async def retire(self, framework: Framework, executor: Executor) -> None:
        """Clears away an executor that has ended, and whose tasks' ends are known to the master."""
        if executor.state is not ExecutorState.TERMINATED or framework.executors.get(executor.id) is not executor:
            return
        if executor.tasks and not framework.terminating:
            return
        del framework.executors[executor.id]
        framework.completed_executors.append(executor)
        self._parts.remains.leave_executor(framework, executor)  # At once: the next one of that name may come any time.
        try:
            await self._parts.recorder.finish(executor)
        except OSError as error:
            logger.error("that the executor %s has ended is not recorded: %s", executor.id, error)
        await self._parts.containers.forget(executor.container_id)
        await self._parts.hooks.executor_removed(framework.info, executor.info)
        self.retire_framework(framework)

    def retire_framework(self, framework: Framework, *, ages_already: bool = False) -> None:
        """Clears away a framework that has no executors. It `ages_already` if an earlier agent has done so."""
        if framework.executors or self._parts.frameworks.get(framework.id) is not framework:
            return
        logger.info("the framework %s has no executors any more", framework.id)
        self._statuses.updates.cleanup(framework.id)
        self._parts.frameworks.complete(framework)
        self._parts.remains.leave_framework(framework, ages_already=ages_already)
        self._framework_gone()

    # What an executor is given.

    def give(self, framework: Framework, executor: Executor, tasks: list[Task], *, grouped: bool) -> None:
        """Has it run tasks: now, or when it has registered."""
        executor.add(tasks, grouped=grouped)
        self._parts.background.spawn(self._deliver(framework, executor))

    async def record_framework(self, framework: Framework) -> None:
        """Has on the disk what the framework has become."""
        await self._parts.recorder.write_framework(framework)

    async def _deliver(self, framework: Framework, executor: Executor) -> None:
        """Hands the waiting tasks over, when they are on the disk and the container has room for them."""
        async with executor.turn:
            try:
                await self._parts.remains.claim_tasks(executor)
                await self._parts.recorder.write(framework, executor)
                await self._parts.reservations.settled()
                if executor.state is not ExecutorState.RUNNING:
                    return
                await self._parts.containers.update(executor)
                self._parts.remains.show_volumes(framework, executor)
            except Exception as error:  # noqa: BLE001 - the container ends then, and its tasks are told why.
                self.update_failed(framework, executor, error)
                return
            if executor.state is ExecutorState.RUNNING and executor.link is not None and not framework.terminating:
                self._hand_over(framework, executor, executor.link)

    def _hand_over(self, framework: Framework, executor: Executor, link: Link) -> None:
        for task in executor.at(Stage.QUEUED):
            if task.stage is not Stage.QUEUED or not task.recorded:
                continue  # It came with its group; or it came just now, and its turn comes.
            if not _launch(framework, executor, link, task):
                text = "The executor is of a kind that takes no task groups"
                refusal = Verdict(framework.dropped, v1.TaskStatus.REASON_TASK_GROUP_INVALID, text)
                self._statuses.from_agent(framework, task.id, refusal, executor.id)

    def update_failed(self, framework: Framework, executor: Executor, error: Exception) -> None:
        """Ends a container whose resources could not be changed."""
        logger.error("the resources of %s cannot be changed: %s", executor.container_id, _line(error))
        executor.pending = Verdict(
            framework.gone,
            v1.TaskStatus.REASON_CONTAINER_UPDATE_FAILED,
            f"Failed to update resources for container: {_line(error)}",
        )
        self._parts.background.spawn(self._parts.containers.destroy(executor.container_id))

    # Its connection.

    def connected(
        self,
        framework: Framework,
        executor: Executor,
        link: Link,
        updates: Sequence[internal.StatusUpdate],
        tasks: Sequence[v1.TaskInfo],
    ) -> None:
        """Has an executor by this link, which knows of `tasks` and `updates` that nobody has acknowledged to it."""
        if framework.terminating or executor.ending:
            link.shut_down()
            link.close()
            return
        if executor.link is not None:
            executor.link.close()
        if executor.state is ExecutorState.REGISTERING:
            executor.enter(ExecutorState.RUNNING)
        executor.stop_timer()
        executor.link = link
        self.came.set()
        for update in updates:
            self._statuses.from_executor(framework.id, executor.id, update)
        known = {task.task_id.value for task in tasks} | {update.status.task_id.value for update in updates}
        self._drop_unknown(framework, executor, known)
        if executor.is_idle:
            self.shut_down(framework, executor)
            return
        assert self._parts.registration.slave is not None
        link.welcome(Welcome(executor.info, framework.info, self._parts.registration.slave, executor.container_id))
        self._parts.background.spawn(self._greeted(framework, executor))

    async def _greeted(self, framework: Framework, executor: Executor) -> None:
        async with executor.turn:
            await self._parts.recorder.connected(executor)
        await self._deliver(framework, executor)

    def _drop_unknown(self, framework: Framework, executor: Executor, known: set[str]) -> None:
        """What was sent to the executor, and never reached it, as the agent was restarted."""
        dropped = Verdict(framework.dropped, v1.TaskStatus.REASON_AGENT_RESTARTED, "Task launched during agent restart")
        for task in executor.at(Stage.LAUNCHED):
            if task.message.state == v1.TASK_STAGING and task.id not in known:
                self._statuses.from_agent(framework, task.id, dropped, executor.id)

    # Its end.

    def shut_down(self, framework: Framework, executor: Executor) -> None:
        """Asks an executor to end, and ends its container if that takes longer than it may."""
        logger.info("the executor %s of the framework %s is told to end", executor.id, framework.id)
        executor.enter(ExecutorState.TERMINATING)
        if executor.link is not None:
            executor.link.shut_down()
        executor.call_later(self._environment.grace_period(executor.info), self._end)

    def end(self, executor: Executor, pending: Verdict) -> None:
        """Ends the container of an executor, for that reason."""
        executor.pending = pending
        executor.stop_timer()
        executor.enter(ExecutorState.TERMINATING)
        self._end(executor)

    def _end(self, executor: Executor) -> None:
        if executor.recording is not None:
            executor.recording.cancel()
        self._parts.background.spawn(self._parts.containers.destroy(executor.container_id))

    def _not_registered(self, executor: Executor) -> None:
        waited = show_duration(self._registration_timeout)
        text = f"Executor did not register within {waited}"
        reason = v1.TaskStatus.REASON_EXECUTOR_REGISTRATION_TIMEOUT
        logger.warning("the executor %s of the framework %s: %s", executor.id, executor.framework_id, text)
        self.end(executor, Verdict(v1.TASK_FAILED, reason, text))


def _launch(framework: Framework, executor: Executor, link: Link, task: Task) -> bool:
    """With its group, if it is of one. False if the executor takes none."""
    together = task.group or (task,)
    infos = [each.info for each in together if each.info is not None]
    if not task.group:
        link.launch(framework.info, framework.pid, infos[0])
    elif not link.launch_group(infos):
        return False
    for each in together:
        each.enter(Stage.LAUNCHED)
    logger.info("%s to the executor %s", ", ".join(f"the task {each.id}" for each in together), executor.id)
    return True


def _line(error: Exception) -> str:
    return "; ".join(map(str, leaves(error)))
