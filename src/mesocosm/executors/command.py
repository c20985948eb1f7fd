"""The command executor: one task that brings a command (Mesos: `mesos-executor`, src/launcher/executor.cpp)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any

from mesocosm.executors import statuses
from mesocosm.executors.client import Client, Json, say
from mesocosm.executors.processes import Children, signal_tree
from mesocosm.executors.settings import ExecutorError, Settings
from mesocosm.launcher.info import Command

_KILL_GRACE_PERIOD = 3.0
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
            self._report("TASK_FAILED", task, message='Attempted to run multiple tasks using a "command" executor')
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
        if limit := _seconds(task.get("max_completion_time")):
            self._overtime = asyncio.get_running_loop().call_later(limit, self._exceeded)
        self._report("TASK_RUNNING")

    def _refuse_group(self, _group: Json) -> None:
        say("a group of tasks is not for the command executor")
        self._shut_down({})

    def _asked_to_kill(self, kill: Json) -> None:
        if kill["task_id"] != self._task.get("task_id"):
            say(f"there is no task {kill['task_id'].get('value')} to kill")
            return
        policies = (kill.get("kill_policy", {}), self._task.get("kill_policy", {}))
        periods = [_seconds(policy["grace_period"]) for policy in policies if "grace_period" in policy]
        self._begin_kill([*periods, _KILL_GRACE_PERIOD][0])

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
        command = self._task["command"]
        if not command.get("value"):
            raise ValueError("it has no value")
        if command.get("shell", True):
            return Command("/bin/sh", ("sh", "-c", command["value"]))
        return Command(command["value"], tuple(command.get("arguments", ())) or (command["value"],))

    def _environment(self) -> Mapping[str, str]:
        """The executor's own, with what the task says; secrets are among the executor's."""
        variables = self._task.get("command", {}).get("environment", {}).get("variables", ())
        own = {each["name"]: each.get("value", "") for each in variables if each.get("type", "VALUE") == "VALUE"}
        resources = self._task.get("resources") or [{}]
        role = resources[0].get("allocation_info", {}).get("role", "")
        return {**os.environ, **own, "MESOS_ALLOCATION_ROLE": role}

    def _begin_kill(self, grace_period: float) -> None:
        """SIGTERM to all of the task, and after some time SIGKILL. A second kill can only make that less."""
        if self._pid is None:
            return
        self._cancel_overtime()
        if self._kill is None:
            capabilities = {each.get("type") for each in self._framework.get("capabilities", ())}
            if "TASK_KILLING_STATE" in capabilities:
                self._report("TASK_KILLING")
            self._kill = _Kill(self._pid)
            signal_tree(self._pid, signal.SIGTERM)
        self._kill.escalate_within(grace_period)

    def _exceeded(self) -> None:
        """Ends the task, which has had all the time that it may have."""
        assert self._pid is not None
        self._overtime = None
        self._kill = _Kill(self._pid, overtime=True)
        signal_tree(self._pid, signal.SIGTERM)
        self._kill.escalate_within(0)

    def _exited(self, status: int) -> None:
        self._pid = None
        self._cancel_overtime()
        if self._kill is not None:
            self._kill.cancel()
        reason = None
        if self._kill is not None and self._kill.overtime:
            state, reason = "TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED"
        elif self._kill is not None:
            state = "TASK_KILLED"
        else:
            state = "TASK_FINISHED" if status == 0 else "TASK_FAILED"
        self._finish(state, reason=reason, message=statuses.describe(status))

    def _fail(self, message: str) -> None:
        self._finish("TASK_FAILED", reason="REASON_COMMAND_EXECUTOR_FAILED", message=message)

    def _finish(self, state: str, **more: Any) -> None:
        """Says how the task ended. The executor ends when the agent has acknowledged that."""
        self._report(state, **more)
        if self._alone:
            self._end(_FAILED)
        else:
            asyncio.get_running_loop().call_later(_ACKNOWLEDGED_WITHIN, self._end, _FAILED)

    def _report(self, state: str, task: Json | None = None, **more: Any) -> None:
        status = statuses.make(self._settings.executor_id, (task or self._task)["task_id"]["value"], state, **more)
        if task is None:
            self._last = status
        self.client.update(status)

    def _cancel_overtime(self) -> None:
        if self._overtime is not None:
            self._overtime.cancel()
            self._overtime = None

    def _end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)


class _Kill:
    """The end that a task was asked to come to, and the time that it has for it."""

    def __init__(self, pid: int, *, overtime: bool = False) -> None:
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


def _refusal(task: Json) -> str | None:
    """Why the task cannot be run, if so."""
    for name in ("check", "health_check"):
        if name in task:
            return f"a task with a {name} is not served yet"
    if "tty_info" in task.get("container", {}):
        return "a terminal for a task is not served"
    return None


def _seconds(duration: Json | None) -> float:
    """A `DurationInfo`, which JSON may have as a text."""
    return 0.0 if duration is None else int(duration["nanoseconds"]) / 1e9
