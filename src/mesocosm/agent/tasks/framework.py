"""Frameworks: whose tasks an agent runs."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from mesocosm.agent import ownership
from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.task import Task
from mesocosm.api import v1
from mesocosm.container import ContainerID

MOST_COMPLETED_FRAMEWORKS = 50
"""That are remembered (MAX_COMPLETED_FRAMEWORKS)."""

_PARTITION_AWARE = v1.FrameworkInfo.Capability.PARTITION_AWARE
_MULTI_ROLE = v1.FrameworkInfo.Capability.MULTI_ROLE


class FrameworkState(enum.Enum):
    """TERMINATING from when the master asks to end it."""

    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"


@dataclass(slots=True, eq=False)
class Framework:
    """A framework and its executors. `pid` is the address of its driver; empty for one that speaks HTTP."""

    info: v1.FrameworkInfo
    pid: str
    completed_executors: deque[Executor]
    executors: dict[str, Executor] = field(default_factory=dict)
    state: FrameworkState = FrameworkState.RUNNING
    recorded: bool = False

    @property
    def id(self) -> str:
        """Its name, which the master gave it."""
        return self.info.id.value

    @property
    def terminating(self) -> bool:
        """Whether it is about to go."""
        return self.state is FrameworkState.TERMINATING

    @property
    def is_partition_aware(self) -> bool:
        """Whether it wants to know how a task was lost."""
        return is_partition_aware(self.info)

    @property
    def dropped(self) -> v1.TaskState:
        """The state of a task that never ran, as the framework knows it."""
        return v1.TASK_DROPPED if self.is_partition_aware else v1.TASK_LOST

    @property
    def gone(self) -> v1.TaskState:
        """The state of a task that ran, and of which nothing is known but that it does not any more."""
        return v1.TASK_GONE if self.is_partition_aware else v1.TASK_LOST

    def may_be(self, user: str, authorizer: Authorizer) -> bool:
        """Whether the access control lists let it run tasks as that user."""
        principal = self.info.principal if self.info.HasField("principal") else None
        return ownership.allows(authorizer, principal, Action.RUN_TASKS, user)

    def terminate(self) -> None:
        """Takes no more tasks."""
        assert self.state is FrameworkState.RUNNING
        self.state = FrameworkState.TERMINATING

    def executor_of(self, task_id: str) -> Executor | None:
        """Who runs a task, or is about to, or did until the master knows how it ended."""
        return next((executor for executor in self.executors.values() if task_id in executor.tasks), None)

    def find_task(self, task_id: str) -> Task | None:
        """One that the master does not yet know the end of."""
        executor = self.executor_of(task_id)
        return None if executor is None else executor.tasks[task_id]


def is_partition_aware(info: v1.FrameworkInfo) -> bool:
    """Whether a framework wants to know how a task was lost."""
    return any(capability.type == _PARTITION_AWARE for capability in info.capabilities)


def is_multi_role(info: v1.FrameworkInfo) -> bool:
    """Whether a framework can have several roles."""
    return any(capability.type == _MULTI_ROLE for capability in info.capabilities)


def roles(info: v1.FrameworkInfo) -> tuple[str, ...]:
    """Those that resources of a framework can be for."""
    return tuple(info.roles) if is_multi_role(info) else (info.role,)


class Frameworks:
    """All frameworks of an agent."""

    def __init__(self, most_completed_executors: int) -> None:
        self._most_completed_executors = most_completed_executors
        self._frameworks: dict[str, Framework] = {}
        self.empty = asyncio.Event()
        """Set while there are none."""
        self.empty.set()
        self.completed: dict[str, Framework] = {}

    def __iter__(self) -> Iterator[Framework]:
        return iter(list(self._frameworks.values()))

    def __len__(self) -> int:
        return len(self._frameworks)

    def get(self, framework_id: str) -> Framework | None:
        """The framework of that name that has executors."""
        return self._frameworks.get(framework_id)

    def add(self, info: v1.FrameworkInfo, pid: str) -> Framework:
        """A framework that comes, or comes back: then its executors that have ended are known."""
        former = self.completed.pop(info.id.value, None)
        ended: deque[Executor] = (
            deque(maxlen=self._most_completed_executors) if former is None else former.completed_executors
        )
        self.empty.clear()
        framework = self._frameworks[info.id.value] = Framework(info, pid, ended)
        return framework

    def complete(self, framework: Framework) -> None:
        """Has nothing more to do with one that has no executors."""
        assert not framework.executors
        del self._frameworks[framework.id]
        self.completed[framework.id] = framework
        if not self._frameworks:
            self.empty.set()
        while len(self.completed) > MOST_COMPLETED_FRAMEWORKS:
            del self.completed[next(iter(self.completed))]

    def executors(self) -> Iterator[Executor]:
        """Those that are there, of all frameworks."""
        for framework in self:
            yield from list(framework.executors.values())

    def by_container(self) -> dict[ContainerID, Executor]:
        """Those that are there, by the ids of their containers."""
        return {executor.container_id: executor for executor in self.executors()}

    def executor(self, framework_id: str, executor_id: str) -> Executor | None:
        """The executor of that name."""
        framework = self.get(framework_id)
        return None if framework is None else framework.executors.get(executor_id)

    def count_executors(self, state: ExecutorState) -> int:
        """How many are in a state."""
        return sum(executor.state is state for executor in self.executors())

    def count_tasks(self, state: int) -> int:
        """How many are in a state, as the agent knows it."""
        return sum(task.message.state == state for executor in self.executors() for task in executor.tasks.values())
