"""The command executor: one task that brings a command (Mesos: `mesos-executor`, src/launcher/executor.cpp)."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Mapping

from mesocosm.executors import base, statuses, terminal
from mesocosm.executors.checks.probes import Beside
from mesocosm.executors.processes import Children, signal_tree
from mesocosm.executors.settings import Settings
from mesocosm.executors.single import SingleTaskExecutor
from mesocosm.executors.statuses import Json
from mesocosm.executors.task import Task
from mesocosm.executors.tasks import command_of, role_of, variables_of
from mesocosm.launcher.info import Command


def main(given: Command) -> int:
    """Runs one task, whose command is `given` if that has any: as its image says, when it says nothing itself."""
    return base.run(functools.partial(CommandExecutor, given))


class CommandExecutor(SingleTaskExecutor):
    """A process, with all that it starts, is the task."""

    kind = "command"
    failure = "REASON_COMMAND_EXECUTOR_FAILED"

    def __init__(self, given: Command, settings: Settings, children: Children) -> None:
        super().__init__(settings, children)
        self._given = given
        self._leader: _Leader | None = None

    def start(self, task: Task) -> None:
        """Executes the command of the task."""
        try:
            environment = self._environment(task.info)
            pid, exited = self.children.start(self._command(task.info), environment, terminal.give_up())
        except (OSError, ValueError) as error:
            self.fail(task, f"the command cannot be executed: {error}")
            return
        self._leader = _Leader(pid)
        exited.add_done_callback(functools.partial(self._exited, task, self._leader))
        task.report("TASK_RUNNING")
        self.follow(task, Beside(self.children))

    def _command(self, task: Json) -> Command:
        """As the image of the task has it, or as the task says. Raises ValueError."""
        if self._given.argv:
            return Command(self._given.executable, self._given.argv)
        return command_of(task.get("command", {}))

    def _environment(self, task: Json) -> Mapping[str, str]:
        """The executor's own, with what the task says; secrets are among the executor's."""
        return {**os.environ, **variables_of(task.get("command", {})), "MESOS_ALLOCATION_ROLE": role_of(task)}

    def stop(self, period: float) -> None:
        """SIGTERM to all of the task, and after some time SIGKILL."""
        if self._leader is not None:
            self._leader.end_within(period)

    def _exited(self, task: Task, leader: _Leader, exited: asyncio.Future[int]) -> None:
        leader.cancel()
        self.conclude(task, statuses.describe(exited.result()), succeeded=exited.result() == 0)


class _Leader:
    """The process that all others of a task come from, and the time that they have from SIGTERM to SIGKILL."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self._told: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def end_within(self, seconds: float) -> None:
        """SIGTERM the first time, and SIGKILL so long after that, if not sooner anyway."""
        if self._told is None:
            self._told = self._loop.time()
            signal_tree(self._pid, signal.SIGTERM)
        when = self._told + seconds
        if self._timer is None or when < self._timer.when():
            self.cancel()
            self._timer = self._loop.call_at(when, signal_tree, self._pid, signal.SIGKILL)

    def cancel(self) -> None:
        """It has ended."""
        if self._timer is not None:
            self._timer.cancel()
