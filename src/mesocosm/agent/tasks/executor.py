"""An executor: what it runs, and where it is on its way from the launch of its container to its end."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.agent.tasks.ended import Verdict
from mesocosm.agent.tasks.links import Link
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.api import v1
from mesocosm.container import ContainerID

MOST_COMPLETED_TASKS = 200
"""Of an executor that are remembered (MAX_COMPLETED_TASKS_PER_EXECUTOR)."""


class ExecutorState(enum.Enum):
    """REGISTERING until it subscribes, TERMINATING from when it is asked to end, TERMINATED without its container."""

    REGISTERING = "REGISTERING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


_NEXT = {
    ExecutorState.REGISTERING: {ExecutorState.RUNNING, ExecutorState.TERMINATING, ExecutorState.TERMINATED},
    ExecutorState.RUNNING: {ExecutorState.TERMINATING, ExecutorState.TERMINATED},
    ExecutorState.TERMINATING: {ExecutorState.TERMINATED},
    ExecutorState.TERMINATED: set[ExecutorState](),
}


@dataclass(slots=True, eq=False)
class Executor:
    """One run of an executor, in a container of its own.

    `generated` for a task that brings a command. `checkpoint` if it outlives the agent, and `recorded` if what that
    takes is on disk. `pending` is why it has to end, if the agent decided that. `turn` has what is done for it, and
    may take a while, done in the order that it was asked for.
    """

    info: v1.ExecutorInfo
    framework_id: str
    container_id: ContainerID
    directory: Path
    user: str | None
    checkpoint: bool
    generated: bool = False
    state: ExecutorState = ExecutorState.REGISTERING
    recorded: bool = False
    link: Link | None = None
    pending: Verdict | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    completed: deque[Task] = field(default_factory=lambda: deque(maxlen=MOST_COMPLETED_TASKS))
    timer: asyncio.TimerHandle | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    recording: asyncio.Task[None] | None = None
    """What puts it on record before it is launched."""

    @property
    def id(self) -> str:
        """Its name, which its framework gave it."""
        return self.info.executor_id.value

    @property
    def is_default(self) -> bool:
        """Whether it is the one that comes with Mesos, for task groups."""
        return self.info.type == v1.ExecutorInfo.DEFAULT

    @property
    def ending(self) -> bool:
        """Whether no task can be given to it any more."""
        return self.state in (ExecutorState.TERMINATING, ExecutorState.TERMINATED)

    def enter(self, state: ExecutorState) -> None:
        """Goes on to `state`, which has to be possible."""
        assert state in _NEXT[self.state], f"executor {self.id}: {self.state} to {state}"
        self.state = state

    def at(self, *stages: Stage) -> list[Task]:
        """Its tasks at these stages, in the order that they came in. Completed ones are in `completed`."""
        return [task for task in self.tasks.values() if task.stage in stages]

    def add(self, tasks: list[Task], *, grouped: bool) -> None:
        """Queues tasks, which start together if they are `grouped`."""
        for task in tasks:
            self.tasks[task.id] = task
            task.group = tuple(tasks) if grouped else ()

    def complete(self, task: Task) -> None:
        """Has nothing more to do with a task, as the master knows how it ended."""
        task.enter(Stage.COMPLETED)
        del self.tasks[task.id]
        self.completed.append(task)

    def has_completed(self, task_id: str) -> bool:
        """Whether it had a task of that name, whose end the master knows."""
        return any(task.id == task_id for task in self.completed)

    @property
    def ever_had_task(self) -> bool:
        """Whether any task was given to it. One that had none and gets none is of no use."""
        if self.at(Stage.LAUNCHED):
            return True
        ended = [*self.at(Stage.TERMINATED), *self.completed]
        return any(status.source == v1.TaskStatus.SOURCE_EXECUTOR for task in ended for status in task.message.statuses)

    @property
    def is_idle(self) -> bool:
        """Whether no task was ever given to it, nor waits for it."""
        return not self.ever_had_task and not self.at(Stage.QUEUED)

    def resources(self) -> Iterator[v1.Resource]:
        """What it and its tasks have been given."""
        yield from self.info.resources
        for task in self.at(Stage.QUEUED, Stage.LAUNCHED):
            yield from task.message.resources

    def call_later(self, seconds: float, callback: Callable[[Executor], None]) -> None:
        """Has `callback` called after that time, and not what was to be called before."""
        self.stop_timer()
        self.timer = asyncio.get_running_loop().call_later(seconds, callback, self)

    def stop_timer(self) -> None:
        """Has nothing called later."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
