"""What a master asks of an agent, and what it is told: the tasks of frameworks in their executors.

As Mesos's agent (slave/slave.cpp): what a message changes is changed at once, and what takes time goes on by itself.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from mesocosm.agent import tls
from mesocosm.agent.authorization import Authorizer
from mesocosm.agent.files import Files
from mesocosm.agent.flags import AgentFlags
from mesocosm.agent.gc import GarbageCollector
from mesocosm.agent.tasks import records, recovery
from mesocosm.agent.tasks.actors import ActorExecutors
from mesocosm.agent.tasks.arrivals import Arrival, Arrivals
from mesocosm.agent.tasks.background import Background
from mesocosm.agent.tasks.containers import Containers
from mesocosm.agent.tasks.counters import Counters
from mesocosm.agent.tasks.drain import Drain
from mesocosm.agent.tasks.ended import Verdict
from mesocosm.agent.tasks.environment import ExecutorEnvironment
from mesocosm.agent.tasks.executions import Executions
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.framework import Framework, Frameworks, is_partition_aware
from mesocosm.agent.tasks.links import Link
from mesocosm.agent.tasks.parts import Parts
from mesocosm.agent.tasks.paths import Layout
from mesocosm.agent.tasks.recorder import Recorder
from mesocosm.agent.tasks.registration import Registration
from mesocosm.agent.tasks.remains import Remains
from mesocosm.agent.tasks.reservations import Reservations
from mesocosm.agent.tasks.revival import Revival
from mesocosm.agent.tasks.statuses import Statuses
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.agent.tokens import ExecutorTokens
from mesocosm.api import internal, v1
from mesocosm.hooks import Hooks
from mesocosm.libprocess.address import ActorAddress
from mesocosm.master.base import Reregistration, Send

logger = logging.getLogger(__name__)

ACTOR = "slave(1)"
"""What the agent is called among the actors of its process."""
_KILLED = v1.TaskStatus.REASON_TASK_KILLED_DURING_LAUNCH


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What tasks need of the agent. `isolation` tells the isolators that there are.

    Executors prove themselves by `tokens`, and find the agent at `domain_socket`, if there is one.
    """

    layout: Layout
    containers: Containers
    files: Files
    gc: GarbageCollector
    authorizer: Authorizer
    hooks: Hooks
    isolation: Callable[[], Collection[str]]
    tokens: ExecutorTokens | None = None
    domain_socket: Path | None = None


class Tasks:
    """The frameworks, executors and tasks of an agent."""

    def __init__(self, flags: AgentFlags, surroundings: Surroundings) -> None:
        self.resource_version = uuid.uuid4().bytes
        self.counters = Counters()
        self.drain = Drain()
        self.registration = Registration(ActorAddress(ACTOR, "0.0.0.0", 0), flags.ip6)
        self.frameworks = Frameworks(flags.max_completed_executors_per_framework)
        self.containers = surroundings.containers
        self.awaits_executors = False
        """Whether executors may come (back): all that is on record is known then."""
        self._parts = parts = self._make_parts(surroundings)
        self._layout = surroundings.layout
        self._statuses = Statuses(parts, self._update_failed)
        self._executions = Executions(
            parts,
            self._statuses,
            _environment(flags, surroundings.domain_socket),
            flags.executor_registration_timeout,
            surroundings.tokens,
            self._drained,
        )
        self.actors = ActorExecutors(
            parts,
            self._executions,
            self._statuses,
            self.executor_message,
            retries=flags.executor_reregistration_retry_interval is not None,
        )
        self._revival = Revival(
            parts,
            self._executions,
            self.actors,
            timeout=flags.executor_reregistration_timeout,
            retry_interval=flags.executor_reregistration_retry_interval,
            switch_user=flags.switch_user,
        )
        self._arrivals = Arrivals(
            parts,
            self._executions,
            self._statuses,
            surroundings.authorizer,
            surroundings.isolation,
            switch_user=flags.switch_user,
        )

    def _make_parts(self, given: Surroundings) -> Parts:
        background, registration = Background(), self.registration
        self.reservations = Reservations(given.layout, registration, background, self._drained)
        return Parts(
            registration,
            self.frameworks,
            self.containers,
            self.reservations,
            Recorder(given.layout, registration, background),
            Remains(given.layout, registration, given.files, given.gc, given.authorizer),
            self.drain,
            self.counters,
            background,
            given.hooks,
        )

    # Beginning and end.

    def listens(self, ip: str, port: int) -> None:
        """Says where the agent is reached, before any executor is launched."""
        self.registration.address = ActorAddress(ACTOR, ip, port)

    def collected(self, path: Path) -> None:
        """A directory was removed for its age."""
        self._parts.remains.collected(path)

    async def recover(self, *, strict: bool) -> int:
        """Takes up what an earlier agent has left; returns how much of that was damaged.

        Raises OSError, and RecoveryError for what is damaged if `strict`.
        """
        found = await recovery.read(self._layout, strict=strict)
        self._statuses.updates.recover(found)
        self.drain.resume(found.drain)
        self.reservations.recover(found.resources)
        await self._revival.take_up(found)
        self.awaits_executors = True
        return found.errors

    async def await_executors(self) -> None:
        """Returns when the executors of an earlier agent are back, or are given up."""
        await self._revival.wait()
        self.actors.is_recovering = False
        if self.drain.config is not None:
            self._kill_all()

    async def close(self) -> None:
        """Lets go of everything. Executors go on."""
        self._executions.close()
        self.reservations.pause()
        await self._parts.background.stop()
        await self.actors.close()
        await self._statuses.updates.close()

    # The master.

    @property
    def slave(self) -> internal.SlaveInfo | None:
        """The agent as it was registered last, also before a restart; None: it never was, and has no id yet."""
        return self.registration.slave

    def connect(self, slave: internal.SlaveInfo, send: Send) -> None:
        """The agent is registered as `slave`; `send` is used from now on."""
        if slave != self.registration.slave:
            self._parts.recorder.take_agent(slave)
        self.registration.slave, self.registration.send = slave, send
        self.containers.warm_up()
        self._statuses.updates.resume()
        self.reservations.resume()

    def disconnect(self) -> None:
        """The master is gone: updates are kept for the next one, and the rest is dropped."""
        self.registration.send = None
        self._statuses.updates.pause()
        self.reservations.pause()

    def handlers(self) -> Mapping[type[Message], Callable[[Any], None]]:
        """What takes each kind of message from the master."""
        return {
            internal.RunTaskMessage: self._run_task,
            internal.RunTaskGroupMessage: self._run_task_group,
            internal.KillTaskMessage: self._kill_task,
            internal.ShutdownExecutorMessage: self._shut_down_executor,
            internal.ShutdownFrameworkMessage: self._shut_down_framework,
            internal.FrameworkToExecutorMessage: self._framework_message,
            internal.UpdateFrameworkMessage: self._update_framework,
            internal.StatusUpdateAcknowledgementMessage: self._acknowledge,
            internal.ReconcileTasksMessage: self._reconcile,
            internal.DrainSlaveMessage: self._begin_drain,
            internal.CheckpointResourcesMessage: self.reservations.checkpoint,
            internal.ApplyOperationMessage: self.reservations.apply,
            internal.ReconcileOperationsMessage: self.reservations.reconcile,
            internal.AcknowledgeOperationStatusMessage: self.reservations.acknowledge,
        }

    def reregistration(self) -> Reregistration:
        """What is known now."""
        frameworks = list(self.frameworks)
        executors = [executor for executor in self.frameworks.executors() if not executor.generated]
        return Reregistration(
            frameworks=tuple(framework.info for framework in frameworks),
            executor_infos=tuple(
                executor.info for executor in executors if executor.state is not ExecutorState.TERMINATED
            ),
            tasks=tuple(task.message for executor in self.frameworks.executors() for task in executor.tasks.values()),
            completed_frameworks=tuple(map(_archive, self.frameworks.completed.values())),
            checkpointed_resources=self.reservations.checkpointed,
            operations=tuple(self.reservations.operations.values()),
        )

    def resources(self) -> tuple[v1.Resource, ...]:
        """What the agent offers, with the reservations and volumes that were made of it."""
        return tuple(self.reservations.total)

    def used(self) -> Iterator[v1.Resource]:
        """What executors and their tasks have of that."""
        for executor in self.frameworks.executors():
            if executor.state is not ExecutorState.TERMINATED:
                yield from executor.resources()

    def _run_task(self, message: internal.RunTaskMessage) -> None:
        self._arrive(message, Arrival.of_task)

    def _run_task_group(self, message: internal.RunTaskGroupMessage) -> None:
        self._arrive(message, Arrival.of_group)

    def _arrive(self, message: Any, read: Callable[[Any], Arrival]) -> None:
        try:
            arrival = read(message)
        except ValueError as error:
            logger.error("tasks are ignored: %s", error)
            return
        self._arrivals.take(arrival, self.resource_version)

    # Tasks.

    def _kill_task(self, message: internal.KillTaskMessage) -> None:
        framework = self.frameworks.get(message.framework_id.value)
        task_id = message.task_id.value
        if framework is None or framework.terminating:
            logger.warning("the task %s is not killed: its framework is not here, or terminating", task_id)
            return
        executor = framework.executor_of(task_id)
        if executor is None:
            reason = v1.TaskStatus.REASON_EXECUTOR_TERMINATED
            self._statuses.from_agent(framework, task_id, Verdict(framework.dropped, reason, "Cannot find executor"))
            return
        policy = message.kill_policy if message.HasField("kill_policy") else None
        self._kill(framework, executor, executor.tasks[task_id], policy)

    def _kill(self, framework: Framework, executor: Executor, task: Task, policy: v1.KillPolicy | None) -> None:
        if executor.ending:
            logger.warning("the task %s is not killed: its executor is %s", task.id, executor.state.value.lower())
        elif task.stage is Stage.QUEUED:
            self._kill_waiting(framework, executor, task)
        elif executor.link is not None:
            executor.link.kill(framework.id, task.id, policy)

    def _kill_waiting(self, framework: Framework, executor: Executor, task: Task) -> None:
        """Of a group, if one is not to run, none is."""
        text = "Killed before delivery to the executor"
        if task.group:
            text = "A task within the task group was killed before delivery to the executor"
        for each in task.group or (task,):
            self._statuses.from_agent(framework, each.id, Verdict(v1.TASK_KILLED, _KILLED, text), executor.id)
        if executor.state is ExecutorState.RUNNING and executor.is_idle:
            self._executions.shut_down(framework, executor)

    def _acknowledge(self, message: internal.StatusUpdateAcknowledgementMessage) -> None:
        self._parts.background.spawn(
            self._acknowledged(message.framework_id.value, message.task_id.value, message.uuid)
        )

    async def _acknowledged(self, framework_id: str, task_id: str, update_id: bytes) -> None:
        """The framework knows of an update. If that was the last of its task, nothing more is kept of that."""
        try:
            update = await self._statuses.updates.acknowledge(framework_id, task_id, update_id)
        except ValueError as error:
            logger.warning("%s", error)
            return
        framework = self.frameworks.get(framework_id)
        executor = None if framework is None else framework.executor_of(task_id)
        if framework is None or executor is None or update is None:
            return
        task = executor.tasks[task_id]
        if task.stage is Stage.TERMINATED and task.message.statuses[-1].uuid == update.uuid:
            executor.complete(task)
            self._parts.remains.leave_task(executor, task)
            if executor.state is ExecutorState.RUNNING and executor.is_idle:
                self._executions.shut_down(framework, executor)  # What it was launched for never reached it.
        await self._executions.retire(framework, executor)

    def _reconcile(self, message: internal.ReconcileTasksMessage) -> None:
        """Tells of tasks that the master knows, and nobody here."""
        framework = self.frameworks.get(message.framework_id.value)
        aware = message.HasField("framework") and is_partition_aware(message.framework)
        state = v1.TASK_DROPPED if aware else v1.TASK_LOST
        reason = v1.TaskStatus.REASON_RECONCILIATION
        unknown = Verdict(state, reason, "Reconciliation: task unknown to the agent")
        for status in message.statuses:
            if framework is None or framework.find_task(status.task_id.value) is None:
                self._statuses.of_unknown(message.framework_id.value, status.task_id.value, unknown)

    # Frameworks and executors.

    def _update_framework(self, message: internal.UpdateFrameworkMessage) -> None:
        framework = self.frameworks.get(message.framework_id.value)
        if framework is None or framework.terminating:
            return
        if message.HasField("framework_info"):
            framework.info.CopyFrom(message.framework_info)
        framework.pid = message.pid
        framework.recorded = False
        self._parts.background.spawn(self._executions.record_framework(framework))
        self._statuses.updates.resume()

    def _shut_down_framework(self, message: internal.ShutdownFrameworkMessage) -> None:
        framework = self.frameworks.get(message.framework_id.value)
        if framework is not None and not framework.terminating:
            self._end_framework(framework)

    def _end_framework(self, framework: Framework) -> None:
        logger.info("the framework %s is shut down", framework.id)
        framework.terminate()
        for executor in list(framework.executors.values()):
            if executor.state is ExecutorState.TERMINATED:
                self._parts.background.spawn(self._executions.retire(framework, executor))
            elif executor.state is not ExecutorState.TERMINATING:
                self._executions.shut_down(framework, executor)
        self._executions.retire_framework(framework)

    def _shut_down_executor(self, message: internal.ShutdownExecutorMessage) -> None:
        framework = self.frameworks.get(message.framework_id.value)
        executor = None if framework is None else framework.executors.get(message.executor_id.value)
        if framework is None or executor is None or framework.terminating or executor.ending:
            logger.warning("the executor %s is not shut down: it is not here, or ends", message.executor_id.value)
            return
        self._executions.shut_down(framework, executor)

    def _framework_message(self, message: internal.FrameworkToExecutorMessage) -> None:
        framework = self.frameworks.get(message.framework_id.value)
        executor = self.frameworks.executor(message.framework_id.value, message.executor_id.value)
        running = executor is not None and executor.state is ExecutorState.RUNNING
        if framework is None or framework.terminating or executor is None or not running or executor.link is None:
            logger.warning("a message for the executor %s is dropped: it does not run", message.executor_id.value)
            self.counters.invalid_framework_messages += 1
            return
        executor.link.message(message)
        self.counters.valid_framework_messages += 1

    async def shut_down(self) -> None:
        """Ends all frameworks, as `ShutdownMessage` asks; returns when none of their containers is left."""
        for framework in self.frameworks:
            if not framework.terminating:
                self._end_framework(framework)
        await self.frameworks.empty.wait()

    # Executors.

    def subscribe(
        self,
        framework: Framework,
        executor: Executor,
        link: Link,
        updates: Sequence[internal.StatusUpdate] = (),
        tasks: Sequence[v1.TaskInfo] = (),
    ) -> None:
        """Has an executor by this link, which knows of `tasks` and `updates` that nobody has acknowledged to it."""
        self._executions.connected(framework, executor, link, updates, tasks)

    def update(self, framework_id: str, executor_id: str, status: v1.TaskStatus) -> None:
        """Takes what an executor has to say of a task."""
        update = self.registration.completed(framework_id, status)
        self._statuses.from_executor(framework_id, executor_id, update)

    def executor_message(self, framework: Framework, executor: Executor, data: bytes) -> None:
        """Takes what an executor has to say to its framework."""
        if framework.terminating or self.registration.send is None:
            logger.warning("a message of the executor %s is dropped: nobody is there for it", executor.id)
            self.counters.invalid_framework_messages += 1
            return
        self.counters.valid_framework_messages += 1
        self.registration.tell(
            internal.ExecutorToFrameworkMessage(
                slave_id=v1.AgentID(value=self.registration.agent_id),
                framework_id=framework.info.id,
                executor_id=executor.info.executor_id,
                data=data,
            )
        )

    def _update_failed(self, framework: Framework, executor: Executor, error: Exception) -> None:
        self._executions.update_failed(framework, executor, error)

    # Draining.

    def _begin_drain(self, message: internal.DrainSlaveMessage) -> None:
        """Ends all tasks, and takes no more until none is left."""
        if not len(self.frameworks) and not self.reservations.operations:
            return
        logger.info("the agent is drained")
        self.drain.begin(message.config)
        self._parts.background.spawn(records.write_drain(self._layout, self.registration.agent_id, message.config))
        self._kill_all()

    def _kill_all(self) -> None:
        for framework in self.frameworks:
            for executor in list(framework.executors.values()):
                for task in executor.at(Stage.LAUNCHED, Stage.QUEUED):
                    own = task.message.kill_policy if task.message.HasField("kill_policy") else None
                    if task.stage is not Stage.TERMINATED:  # With its group.
                        self._kill(framework, executor, task, self.drain.kill_policy(own))

    def _drained(self) -> None:
        """A framework or an operation is gone: perhaps the last."""
        if self.drain.config is None or len(self.frameworks) or self.reservations.operations:
            return
        logger.info("the agent is drained, and takes tasks again")
        self.drain.end()
        self._parts.background.spawn(records.write_drain(self._layout, self.registration.agent_id, None))


def _environment(flags: AgentFlags, domain_socket: Path | None) -> ExecutorEnvironment:
    return ExecutorEnvironment(
        variables=flags.executor_environment_variables,
        shutdown_grace_period=flags.executor_shutdown_grace_period,
        recovery_timeout=flags.recovery_timeout,
        reregistration_timeout=flags.executor_reregistration_timeout,
        http_command_executor=flags.http_command_executor,
        domain_socket=domain_socket,
        secure=tls.is_enabled(os.environ),
    )


def _archive(framework: Framework) -> internal.Archive.Framework:
    tasks = [
        task.message
        for executor in framework.completed_executors
        for task in (*executor.tasks.values(), *executor.completed)
    ]
    return internal.Archive.Framework(framework_info=framework.info, pid=framework.pid or None, tasks=tasks)
