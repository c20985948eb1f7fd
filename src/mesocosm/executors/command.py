"""The command executor: one task that brings a command (Mesos: `mesos-executor`, src/launcher/executor.cpp)."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Mapping

from mesocosm.executors import base, statuses
from mesocosm.executors.client import say
from mesocosm.executors.processes import Children, signal_tree
from mesocosm.executors.settings import Settings
from mesocosm.executors.statuses import Json
from mesocosm.executors.task import Task
from mesocosm.executors.tasks import command_of, grace_period, id_of, role_of, variables_of
from mesocosm.launcher.info import Command

_SHUTDOWN_RESERVE = 1.0
"""Seconds of the time for a shutdown that are left for the last update, before the agent destroys the container."""


def main(given: Command) -> int:
    """Runs one task, whose command is `given` if that has any: as its image says, when it says nothing itself."""
    return base.run(functools.partial(CommandExecutor, given))


class CommandExecutor(base.Executor):
    """The life of one task."""

    def __init__(self, given: Command, settings: Settings, children: Children) -> None:
        super().__init__(settings, children)
        self._given = given
        self._task: Task | None = None
        self._pid: int | None = None
        self._kill: _Kill | None = None
        self._alone = False

    @property
    def done(self) -> bool:
        """Whether the task has ended, which may not have come yet."""
        return self._task is not None and self._pid is None

    def launch(self, task: Json) -> None:
        """Executes the command of the task."""
        if self._task is not None:
            message = 'Attempted to run multiple tasks using a "command" executor'
            failed = statuses.make(self.settings.executor_id, id_of(task), "TASK_FAILED", message=message)
            self.client.update(failed)
            return
        self._task = Task(task, self.client, self.settings.executor_id)
        self.client.accept(task)
        self._task.report("TASK_STARTING")
        if refusal := self._task.refusal:
            self._fail(self._task, refusal)
            return
        try:
            self._pid, exited = self.children.start(self._command(task), self._environment(task))
        except (OSError, ValueError) as error:
            self._fail(self._task, f"the command cannot be executed: {error}")
            return
        exited.add_done_callback(functools.partial(self._exited, self._task))
        self._task.report("TASK_RUNNING")
        unhealthy = functools.partial(self._begin_kill, self._task, grace_period({}, task))
        exceeded = functools.partial(self._begin_kill, self._task, 0, overtime=True)
        self._task.follow(self.children, exceeded=exceeded, unhealthy=unhealthy)

    def _command(self, task: Json) -> Command:
        """As the image of the task has it, or as the task says. Raises ValueError."""
        if self._given.argv:
            return Command(self._given.executable, self._given.argv)
        return command_of(task.get("command", {}))

    def _environment(self, task: Json) -> Mapping[str, str]:
        """The executor's own, with what the task says; secrets are among the executor's."""
        return {**os.environ, **variables_of(task.get("command", {})), "MESOS_ALLOCATION_ROLE": role_of(task)}

    def kill(self, task_id: str, kill: Json) -> None:
        """Ends the task in the time of its policy."""
        if self._task is None or self._task.task_id != task_id:
            say(f"there is no task {task_id} to kill")
            return
        self._begin_kill(self._task, grace_period(kill, self._task.info))

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
        """SIGTERM to all of the task, and after some time SIGKILL. A second kill can only make that less."""
        if self._pid is None:
            return
        task.settle()
        if self._kill is None:
            if self.tells_of_kills and not overtime:
                task.report("TASK_KILLING")
            self._kill = _Kill(self._pid, overtime=overtime)
            signal_tree(self._pid, signal.SIGTERM)
        self._kill.escalate_within(period)

    def _exited(self, task: Task, exited: asyncio.Future[int]) -> None:
        """Says how the task ended. The executor ends when the agent has acknowledged that."""
        self._pid = None
        task.settle()
        status, message = exited.result(), statuses.describe(exited.result())
        if self._kill is not None:
            self._kill.cancel()
        if self._kill is None:
            task.report("TASK_FINISHED" if status == 0 else "TASK_FAILED", message=message)
        elif self._kill.overtime:
            task.report("TASK_FAILED", reason="REASON_MAX_COMPLETION_TIME_REACHED", message=message)
        else:
            task.report("TASK_KILLED", message=message, healthy=False if task.unhealthy else None)
        self._finish()

    def _fail(self, task: Task, message: str) -> None:
        task.report("TASK_FAILED", reason="REASON_COMMAND_EXECUTOR_FAILED", message=message)
        self._finish()

    def _finish(self) -> None:
        if self._alone:
            self.end()
        else:
            self.end_if_done()


class _Kill:
    """The end that a task was asked to come to, and the time that it has for it."""

    def __init__(self, pid: int, *, overtime: bool) -> None:
        self.overtime = overtime
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def escalate_within(self, seconds: float) -> None:
        """SIGKILL so long after the beginning, if not sooner anyway."""
        when = self._began + seconds
        if self._timer is None or when < self._timer.when():
            self.cancel()
            self._timer = self._loop.call_at(when, signal_tree, self._pid, signal.SIGKILL)

    def cancel(self) -> None:
        """It has ended."""
        if self._timer is not None:
            self._timer.cancel()
