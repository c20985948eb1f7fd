"""Executors of one task, and no more: what those have in common, whatever it is that runs."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import ClassVar

from mesocosm.executors import base, statuses
from mesocosm.executors.checks.probes import Place
from mesocosm.executors.client import say
from mesocosm.executors.processes import Children
from mesocosm.executors.settings import Settings
from mesocosm.executors.statuses import Json
from mesocosm.executors.task import Task
from mesocosm.executors.tasks import KILL_GRACE_PERIOD, grace_period, id_of

_SHUTDOWN_RESERVE = 1.0
"""Seconds of the time for a shutdown that are left for the last update, before the agent destroys the container."""


class SingleTaskExecutor(base.Executor):
    """The life of one task. What runs is begun by `start`, told to end by `stop`, and said to be gone by `conclude`."""

    kind: ClassVar[str]
    """What it is called in a message."""
    failure: ClassVar[str | None] = None
    """The reason of a task that cannot be started."""

    def __init__(self, settings: Settings, children: Children) -> None:
        super().__init__(settings, children)
        self._task: Task | None = None
        self._runs = False
        self._killed = False
        self._overtime = False
        self._alone = False

    @abstractmethod
    def start(self, task: Task) -> None:
        """Begins what runs, if it can; else calls `fail`."""

    @abstractmethod
    def stop(self, period: float) -> None:
        """Has it end within so many seconds. A later call can only make that less."""

    @property
    def grace_period(self) -> float:
        """Seconds that the task has for its end where nobody has said anything."""
        return KILL_GRACE_PERIOD

    @property
    def killed(self) -> bool:
        """Whether the task was asked to end."""
        return self._killed

    @property
    def done(self) -> bool:
        """Whether the task has ended, which may not have come yet."""
        return self._task is not None and not self._runs

    def launch(self, task: Json) -> None:
        """Executes the task."""
        if self._task is not None:
            message = f'Attempted to run multiple tasks using a "{self.kind}" executor'
            failed = statuses.make(self.settings.executor_id, id_of(task), "TASK_FAILED", message=message)
            self.client.update(failed)
            return
        self._task = Task(task, self.client, self.settings.executor_id)
        self._runs = True
        self.client.accept(task)
        self._task.report("TASK_STARTING")
        if refusal := self._task.refusal:
            self.fail(self._task, refusal)
        else:
            self.start(self._task)

    def follow(self, task: Task, place: Place) -> None:
        """Has it checked where it runs; it ends for its health, or when its time is over."""
        unhealthy = partial(self._begin_kill, task, grace_period({}, task.info, self.grace_period))
        exceeded = partial(self._begin_kill, task, 0, overtime=True)
        task.follow(place, exceeded=exceeded, unhealthy=unhealthy)

    def kill(self, task_id: str, kill: Json) -> None:
        """Ends the task in the time of its policy."""
        if self._task is None or self._task.task_id != task_id:
            say(f"there is no task {task_id} to kill")
            return
        self._begin_kill(self._task, grace_period(kill, self._task.info, self.grace_period))

    def shut_down(self) -> None:
        """Ends the task in the time that the agent has for it."""
        if self._task is None:
            self.end(0)
        else:
            self._begin_kill(self._task, max(self.settings.shutdown_grace_period - _SHUTDOWN_RESERVE, 0))

    def abandon(self) -> None:
        """Ends the task although there is nobody to tell."""
        self._alone = True
        self.shut_down()
        if self.done:
            self.end()

    def _begin_kill(self, task: Task, period: float, *, overtime: bool = False) -> None:
        if not self._runs:
            return
        task.settle()
        if not self._killed:
            if self.tells_of_kills and not overtime:
                task.report("TASK_KILLING")
            self._killed, self._overtime = True, overtime
        self.stop(period)

    def conclude(self, task: Task, message: str, *, succeeded: bool) -> None:
        """Says how the task ended. The executor ends when the agent has acknowledged that."""
        self._runs = False
        task.settle()
        if not self._killed:
            task.report("TASK_FINISHED" if succeeded else "TASK_FAILED", message=message)
        elif self._overtime:
            task.report("TASK_FAILED", reason="REASON_MAX_COMPLETION_TIME_REACHED", message=message)
        else:
            task.report("TASK_KILLED", message=message, healthy=False if task.unhealthy else None)
        self._finish()

    def fail(self, task: Task, message: str) -> None:
        """Says that the task could not be started."""
        self._runs = False
        task.report("TASK_FAILED", reason=self.failure, message=message)
        self._finish()

    def _finish(self) -> None:
        if self._alone:
            self.end()
        else:
            self.end_if_done()
