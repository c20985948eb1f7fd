"""Tasks that arrive: whether they can be run here, and by which executor."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from mesocosm.agent.authorization import Authorizer
from mesocosm.agent.tasks import allocation
from mesocosm.agent.tasks.ended import Verdict
from mesocosm.agent.tasks.executions import Executions
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.framework import Framework, roles
from mesocosm.agent.tasks.generated import executor_for
from mesocosm.agent.tasks.parts import Parts
from mesocosm.agent.tasks.statuses import Statuses
from mesocosm.agent.tasks.task import Task
from mesocosm.api import internal, v1
from mesocosm.api.validation import is_of_docker
from mesocosm.container import ContainerID

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Tasks for an executor, which is to be launched if `launches`; None: an old master did not say.

    `grouped`: they run together or not at all. `generated`: there is one, and it brings a command.
    """

    framework: v1.FrameworkInfo
    executor: v1.ExecutorInfo
    tasks: Sequence[v1.TaskInfo]
    pid: str
    launches: bool | None
    versions: Sequence[internal.ResourceVersionUUID]
    grouped: bool = False
    generated: bool = False

    @classmethod
    def of_task(cls, message: internal.RunTaskMessage) -> Arrival:
        """A single task. Raises ValueError for what no master sends."""
        task = message.task
        if task.HasField("executor") == task.HasField("command"):
            raise ValueError(f"the task {task.task_id.value} has to have either an executor or a command")
        generated = task.HasField("command")
        executor = executor_for(task, message.framework.id) if generated else task.executor
        launches = message.launch_executor if message.HasField("launch_executor") else None
        arrival = cls(
            message.framework,
            executor,
            (task,),
            message.pid,
            launches,
            message.resource_version_uuids,
            generated=generated,
        )
        return arrival.completed()

    @classmethod
    def of_group(cls, message: internal.RunTaskGroupMessage) -> Arrival:
        """A group. Raises ValueError for what no master sends."""
        if not message.task_group.tasks:
            raise ValueError("the task group has no tasks")
        launches = message.launch_executor if message.HasField("launch_executor") else None
        arrival = cls(
            message.framework,
            message.executor,
            tuple(message.task_group.tasks),
            "",
            launches,
            message.resource_version_uuids,
            grouped=True,
        )
        return arrival.completed()

    def completed(self) -> Arrival:
        """With what older masters leave out. Raises ValueError."""
        if not self.framework.HasField("id"):
            raise ValueError("its framework has no id")
        names = roles(self.framework)
        allocation.complete(self.executor.resources, names)
        for task in self.tasks:
            allocation.complete(task.resources, names)
            allocation.complete(task.executor.resources, names) if task.HasField("executor") else None
        return self

    @property
    def text(self) -> str:
        """The tasks, for the log."""
        return ", ".join(f"the task {task.task_id.value}" for task in self.tasks)


class Arrivals:
    """Decides on tasks that arrive. What cannot be run is said to have been dropped, and why."""

    def __init__(
        self,
        parts: Parts,
        executions: Executions,
        statuses: Statuses,
        authorizer: Authorizer,
        isolation: Callable[[], Collection[str]],
        *,
        switch_user: bool,
    ) -> None:
        """`isolation` tells the isolators that there are."""
        self._parts = parts
        self._executions = executions
        self._statuses = statuses
        self._authorizer = authorizer
        self._isolation = isolation
        self._switch_user = switch_user

    def take(self, arrival: Arrival, resource_version: bytes) -> None:
        """Runs tasks, or says why not."""
        agent_id = self._parts.registration.agent_id
        if wrong := [task.agent_id.value for task in arrival.tasks if task.agent_id.value != agent_id]:
            logger.warning("%s: ignored, as it is for the agent %s", arrival.text, wrong[0])
            return
        logger.info("got %s of the framework %s", arrival.text, arrival.framework.id.value)
        framework = self._parts.frameworks.get(arrival.framework.id.value)
        if framework is not None and framework.terminating:
            logger.warning("%s: ignored, as the framework is terminating", arrival.text)
            self._tell_exited(arrival)
            return
        if framework is None:
            framework = self._parts.frameworks.add(arrival.framework, arrival.pid)
        if known := [task.task_id.value for task in arrival.tasks if framework.find_task(task.task_id.value)]:
            logger.error("%s: ignored, as %s is here already", arrival.text, known[0])
            return
        refusal = next(self._refusals(framework, arrival, resource_version), None)
        if refusal is not None:
            self._refuse(framework, arrival, refusal)
            return
        self._give(framework, arrival)

    def _refuse(self, framework: Framework, arrival: Arrival, refusal: Verdict) -> None:
        logger.warning("%s: %s", arrival.text, refusal.message)
        for task in arrival.tasks:
            self._statuses.from_agent(framework, task.task_id.value, refusal, arrival.executor.executor_id.value)
        self._tell_exited(arrival)
        self._executions.retire_framework(framework)

    def _tell_exited(self, arrival: Arrival) -> None:
        """The master, who has launched an executor, has its resources back."""
        if arrival.launches:
            self._executions.tell_exited(arrival.framework.id.value, arrival.executor.executor_id.value)

    # Why tasks cannot be run.

    def _refusals(self, framework: Framework, arrival: Arrival, version: bytes) -> Iterator[Verdict]:
        if (text := self._unlimited(arrival)) is not None:
            yield Verdict(framework.dropped, v1.TaskStatus.REASON_GC_ERROR, text)  # As Mesos calls it.
        if (text := self._nameless(arrival)) is not None:
            yield Verdict(v1.TASK_ERROR, v1.TaskStatus.REASON_TASK_INVALID, text)
        if arrival.grouped and any(map(is_of_docker, arrival.tasks)):
            text = "Docker ContainerInfo is not supported on the task"  # As a master says.
            yield Verdict(v1.TASK_ERROR, v1.TaskStatus.REASON_TASK_GROUP_INVALID, text)
        if (text := self._unauthorized(framework, arrival)) is not None:
            reason = (
                v1.TaskStatus.REASON_TASK_GROUP_UNAUTHORIZED
                if arrival.grouped
                else v1.TaskStatus.REASON_TASK_UNAUTHORIZED
            )
            yield Verdict(v1.TASK_ERROR, reason, text)
        if self._parts.drain.config is not None:
            text = "Task was received while agent was already draining"
            yield Verdict(framework.dropped, v1.TaskStatus.REASON_AGENT_DRAINING, text)
        if any(each.uuid.value != version for each in arrival.versions if not each.HasField("resource_provider_id")):
            text = "Task assumes outdated resource state"
            yield Verdict(framework.dropped, v1.TaskStatus.REASON_INVALID_OFFERS, text)
        for what, resources in self._used(arrival):
            if not self._parts.reservations.has(resources):
                text = f"The checkpointed resources being used by the {what} are unknown to the agent"
                yield Verdict(framework.dropped, v1.TaskStatus.REASON_RESOURCES_UNKNOWN, text)

    def _unlimited(self, arrival: Arrival) -> str | None:
        """A limit that nothing here would enforce."""
        isolation = self._isolation()
        for name, isolator in (("cpus", "cgroups/cpu"), ("mem", "cgroups/mem")):
            if isolator in isolation:
                continue
            for task in arrival.tasks:
                if name in task.limits and not is_of_docker(task):
                    kind = {"cpus": "CPU", "mem": "Memory"}[name]
                    return (
                        f"{kind} limits can only be set on tasks launched in Mesos containers when the agent has"
                        f" loaded the '{isolator}' isolator"
                    )
        return None

    def _nameless(self, arrival: Arrival) -> str | None:
        """An id that cannot be the name of a directory. A master lets none pass."""
        try:
            self._parts.remains.sandbox(arrival.framework.id.value, arrival.executor.executor_id.value, "any")
            for task in arrival.tasks:
                self._parts.remains.check_task(task.task_id.value)
        except ValueError as error:
            return str(error)
        return None

    def _unauthorized(self, framework: Framework, arrival: Arrival) -> str | None:
        """A user that its framework may not be: of a task, or of an executor that says so."""
        own = [arrival.executor.command.user] if arrival.executor.command.HasField("user") else []
        for task in arrival.tasks:
            given = [task.command.user] if task.command.HasField("user") else []
            for user in [*given, *own] or [framework.info.user]:
                if not framework.may_be(user, self._authorizer):
                    return (
                        f"Framework {framework.id} is not authorized to launch task"
                        f" {task.task_id.value} as the user {user!r}"
                    )
        return None

    def _used(self, arrival: Arrival) -> Iterator[tuple[str, Sequence[v1.Resource]]]:
        for task in arrival.tasks:
            yield "task or task group", task.resources
        yield "executor", arrival.executor.resources

    # Who runs them.

    def _give(self, framework: Framework, arrival: Arrival) -> None:
        executor = framework.executors.get(arrival.executor.executor_id.value)
        if arrival.launches is not None and (text := _contradiction(arrival, executor)) is not None:
            reason = (
                v1.TaskStatus.REASON_TASK_INVALID if arrival.generated else v1.TaskStatus.REASON_EXECUTOR_TERMINATED
            )
            self._drop(framework, arrival, reason, text)
            if executor is not None and not arrival.generated:
                self._correct(framework, executor)
            self._executions.retire_framework(framework)
            return
        if executor is not None and executor.ending:
            text = f"Executor {executor.state.value.lower()}"
            self._drop(framework, arrival, v1.TaskStatus.REASON_EXECUTOR_TERMINATED, text)
            return
        for info in arrival.tasks:
            self._parts.hooks.label(info, arrival.executor, framework.info)
        tasks = [Task.create(info, framework.id) for info in arrival.tasks]
        if executor is not None:
            self._executions.give(framework, executor, tasks, grouped=arrival.grouped)
            return
        executor = self._new_executor(framework, arrival)
        executor.add(tasks, grouped=arrival.grouped)
        self._executions.start(framework, executor)

    def _drop(self, framework: Framework, arrival: Arrival, reason: v1.TaskStatus.Reason, text: str) -> None:
        logger.warning("%s: %s", arrival.text, text)
        verdict = Verdict(framework.dropped, reason, text)
        for task in arrival.tasks:
            self._statuses.from_agent(framework, task.task_id.value, verdict, arrival.executor.executor_id.value)

    def _correct(self, framework: Framework, executor: Executor) -> None:
        """Has the master see that there is an executor which it believes to be gone: by its end."""
        if executor.state is ExecutorState.TERMINATED:
            self._executions.tell_exited(framework.id, executor.id)
        elif executor.state is not ExecutorState.TERMINATING:
            self._executions.shut_down(framework, executor)

    def _new_executor(self, framework: Framework, arrival: Arrival) -> Executor:
        info = v1.ExecutorInfo()
        info.CopyFrom(arrival.executor)
        info.framework_id.value = framework.id
        container_id = ContainerID(str(uuid.uuid4()))
        user = info.command.user if info.command.HasField("user") else framework.info.user
        return Executor(
            info,
            framework.id,
            container_id,
            self._parts.remains.sandbox(framework.id, info.executor_id.value, container_id.value),
            user or None if self._switch_user else None,
            framework.info.checkpoint,
            arrival.generated,
        )


def _contradiction(arrival: Arrival, executor: Executor | None) -> str | None:
    """In what the master's view of the executor is wrong."""
    if arrival.generated:
        return None if executor is None else "Cannot reuse an already existing executor for a command task"
    if arrival.launches and executor is not None:
        return "Master wants to launch executor, but one already exists"
    if not arrival.launches and executor is None:
        return "No executor is expected to launch and there is none running"
    return None
