"""The command executor: one task that brings a command (Mesos: `mesos-executor`, src/launcher/executor.cpp)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping
from typing import Any

from mesocosm.executors import statuses
from mesocosm.executors.checks import probes
from mesocosm.executors.checks.checker import Health, empty, refusal, watch, watch_health
from mesocosm.executors.client import Client, say
from mesocosm.executors.processes import Children, signal_tree
from mesocosm.executors.settings import ExecutorError, Settings
from mesocosm.executors.statuses import Json
from mesocosm.executors.tasks import command_of, grace_period, id_of, role_of, seconds_of, variables_of
from mesocosm.launcher.info import Command

_SHUTDOWN_RESERVE = 1.0
"""Seconds of the time for a shutdown that are left for the last update, before the agent destroys the container."""
_ACKNOWLEDGED_WITHIN = 60.0
_FAILED = 1


def main(given: Command) -> int:
    """Runs one task, whose command is `given` if that has any: as its image says, when it says nothing itself."""
    try:
        return asyncio.run(_run(Settings.take(os.environ), given))
    except ExecutorError as error:
        say(str(error))
        return _FAILED


async def _run(settings: Settings, given: Command) -> int:
    """Until the task has ended, and its agent knows it. Raises ExecutorError."""
    with Children() as children:
        executor = CommandExecutor(settings, given, children)
        link = asyncio.create_task(executor.client.run())
        waits: list[asyncio.Future[Any]] = [link, executor.ended]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if link.done():
            executor.abandon()
            await executor.ended
            link.result()
        link.cancel()
        return executor.ended.result()


class CommandExecutor:
    """The life of the task. `ended` becomes the exit status of the executor."""

    def __init__(self, settings: Settings, given: Command, children: Children) -> None:
        self.client = Client(settings, self._handle)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._given = given
        self._children = children
        self._framework: Json = {}
        self._task: Json = {}
        self._last: Json = {}
        self._pid: int | None = None
        self._alone = False
        self._kill: _Kill | None = None
        self._overtime: asyncio.TimerHandle | None = None
        self._checks: list[asyncio.Future[None]] = []

    def abandon(self) -> None:
        """Ends the task although there is nobody to tell."""
        self._alone = True
        self._shut_down({})

    # What the agent wants.

    def _handle(self, event: Json) -> None:
        handlers = {
            "SUBSCRIBED": self._subscribed,
            "LAUNCH": self._launch,
            "LAUNCH_GROUP": self._refuse_group,
            "KILL": self._asked_to_kill,
            "ACKNOWLEDGED": self._acknowledged,
            "SHUTDOWN": self._shut_down,
            "ERROR": self._complain,
        }
        if (handler := handlers.get(event["type"])) is not None:
            handler(event.get(event["type"].lower(), {}))

    def _subscribed(self, subscribed: Json) -> None:
        self._framework = subscribed["framework_info"]

    def _launch(self, launch: Json) -> None:
        task = launch["task"]
        if self._task:
            message = 'Attempted to run multiple tasks using a "command" executor'
            failed = statuses.make(self._settings.executor_id, id_of(task), "TASK_FAILED", message=message)
            self.client.update(failed)
            return
        self._task = task
        self.client.accept(task)
        self._report("TASK_STARTING")
        if refusal := _refusal(task):
            self._fail(refusal)
            return
        try:
            self._pid, exited = self._children.start(self._command(), self._environment())
        except (OSError, ValueError) as error:
            self._fail(f"the command cannot be executed: {error}")
            return
        exited.add_done_callback(lambda future: self._exited(future.result()))
        if limit := seconds_of(task.get("max_completion_time")):
            self._overtime = asyncio.get_running_loop().call_later(limit, self._exceeded)
        self._report("TASK_RUNNING")
        self._begin_checks()

    def _refuse_group(self, _group: Json) -> None:
        say("a group of tasks is not for the command executor")
        self._shut_down({})

    def _asked_to_kill(self, kill: Json) -> None:
        if kill["task_id"] != self._task.get("task_id"):
            say(f"there is no task {kill['task_id'].get('value')} to kill")
            return
        self._begin_kill(grace_period(kill, self._task))

    def _acknowledged(self, acknowledged: Json) -> None:
        if acknowledged["uuid"] == self._last.get("uuid") and self._last["state"] in statuses.TERMINAL:
            self._end(0)

    def _shut_down(self, _shutdown: Json) -> None:
        if self._pid is None:
            self._end(0)
        else:
            self._begin_kill(max(self._settings.shutdown_grace_period - _SHUTDOWN_RESERVE, 0))

    def _complain(self, error: Json) -> None:
        say(f"the agent: {error.get('message')}")

    # What becomes of the task.

    def _command(self) -> Command:
        """As the image of the task has it, or as the task says. Raises ValueError."""
        if self._given.argv:
            return Command(self._given.executable, self._given.argv)
        return command_of(self._task.get("command", {}))

    def _environment(self) -> Mapping[str, str]:
        """The executor's own, with what the task says; secrets are among the executor's."""
        variables = variables_of(self._task.get("command", {}))
        return {**os.environ, **variables, "MESOS_ALLOCATION_ROLE": role_of(self._task)}

    def _begin_checks(self) -> None:
        """Those that the task asks for, until it is killed or has ended."""
        if "check" in self._task:
            check = self._task["check"]
            self._watch(watch(check, probes.create(check, self._children), self._checked))
        if "health_check" in self._task:
            check = self._task["health_check"]
            self._watch(watch_health(check, probes.create(check, self._children), self._health_checked))

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        self._checks.append(asyncio.ensure_future(work))

    def _checked(self, answer: Json) -> None:
        self._report_again(reason="REASON_TASK_CHECK_STATUS_UPDATED", check_status=answer)

    def _health_checked(self, health: Health) -> None:
        self._report_again(reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", healthy=health.healthy)
        if health.kill:
            self._begin_kill(grace_period({}, self._task), unhealthy=True)

    def _begin_kill(self, period: float, *, unhealthy: bool = False) -> None:
        """SIGTERM to all of the task, and after some time SIGKILL. A second kill can only make that less."""
        if self._pid is None:
            return
        self._settle()
        if self._kill is None:
            capabilities = {each.get("type") for each in self._framework.get("capabilities", ())}
            if "TASK_KILLING_STATE" in capabilities:
                self._report("TASK_KILLING")
            self._kill = _Kill(self._pid, unhealthy=unhealthy)
            signal_tree(self._pid, signal.SIGTERM)
        self._kill.escalate_within(period)

    def _exceeded(self) -> None:
        """Ends the task, which has had all the time that it may have."""
        assert self._pid is not None
        self._settle()
        self._kill = _Kill(self._pid, overtime=True)
        signal_tree(self._pid, signal.SIGTERM)
        self._kill.escalate_within(0)

    def _exited(self, status: int) -> None:
        self._pid = None
        self._settle()
        if self._kill is not None:
            self._kill.cancel()
        reason, healthy = None, None
        if self._kill is not None and self._kill.overtime:
            state, reason = "TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED"
        elif self._kill is not None:
            state, healthy = "TASK_KILLED", False if self._kill.unhealthy else None
        else:
            state = "TASK_FINISHED" if status == 0 else "TASK_FAILED"
        self._finish(state, reason=reason, healthy=healthy, message=statuses.describe(status))

    def _fail(self, message: str) -> None:
        self._finish("TASK_FAILED", reason="REASON_COMMAND_EXECUTOR_FAILED", message=message)

    def _finish(self, state: str, **more: Any) -> None:
        """Says how the task ended. The executor ends when the agent has acknowledged that."""
        self._report(state, **more)
        if self._alone:
            self._end(_FAILED)
        else:
            asyncio.get_running_loop().call_later(_ACKNOWLEDGED_WITHIN, self._end, _FAILED)

    def _report(self, state: str, **more: Any) -> None:
        check = self._task.get("check")
        if check is not None and refusal(check) is None:
            more["check_status"] = empty(check)
        self._last = statuses.make(self._settings.executor_id, id_of(self._task), state, **more)
        self.client.update(self._last)

    def _report_again(self, **changes: Any) -> None:
        """The state that it is in, with something new."""
        self._last = statuses.again(self._last, **changes)
        self.client.update(self._last)

    def _settle(self) -> None:
        """Ends what goes on as long as the task is to run."""
        for check in self._checks:
            check.cancel()
        if self._overtime is not None:
            self._overtime.cancel()

    def _end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)


class _Kill:
    """The end that a task was asked to come to, and the time that it has for it."""

    def __init__(self, pid: int, *, overtime: bool = False, unhealthy: bool = False) -> None:
        self.overtime = overtime
        self.unhealthy = unhealthy
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


def _refusal(task: Json) -> str | None:
    """Why the task cannot be run, if so."""
    for name in ("check", "health_check"):
        if name in task and (reason := refusal(task[name])):
            return f"the {name.replace('_', ' ')} of the task is invalid: {reason}"
    if "tty_info" in task.get("container", {}):
        return "a terminal for a task is not served"
    return None
