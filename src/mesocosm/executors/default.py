"""The default executor: groups of tasks, each a container nested in the executor's.

That is `mesos-default-executor` of Mesos (src/launcher/default_executor.cpp). A group starts together, and the end of
one of its tasks by a failure or a kill is that of all. The executor ends with its last task.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesocosm.executors import base, statuses
from mesocosm.executors.checks.nested import InContainer
from mesocosm.executors.client import say
from mesocosm.executors.operator import Operator, Refused
from mesocosm.executors.processes import Children
from mesocosm.executors.settings import Settings
from mesocosm.executors.statuses import Json
from mesocosm.executors.task import Task
from mesocosm.executors.tasks import KILL_GRACE_PERIOD, grace_period, role_of
from mesocosm.launcher.info import Command
from mesocosm.linux import network

_NOT_FOUND = 404
_OF_CGROUPS = ("cpus", "mem")
_ANY, _LOOPBACK = "0.0.0.0", "127.0.0.1"
_AGAIN = 1.0
"""Seconds until a SIGKILL that could not be sent is sent again."""


def main(_given: Command) -> int:
    """Runs groups of tasks, until the last has ended."""
    return base.run(DefaultExecutor)


@dataclass(slots=True, eq=False)
class _Nested:
    """A task, the container that it is, and the group that it lives and dies with."""

    task: Task
    container_id: Json
    group: _Group
    launched: bool = False
    killing: bool = False
    overtime: bool = False
    grace_period: float = KILL_GRACE_PERIOD
    escalation: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Group:
    members: list[_Nested] = field(default_factory=list)
    ending: bool = False


class DefaultExecutor(base.Executor):
    """The lives of its tasks, each in a task of asyncio."""

    def __init__(self, settings: Settings, children: Children) -> None:
        super().__init__(settings, children)
        self._operator = Operator(settings)
        self._running: dict[str, _Nested] = {}
        self._shutting_down = False
        self._work: set[asyncio.Task[None]] = set()
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether all tasks have ended, of which there was one."""
        return self._begun and not self._running

    # What the agent wants.

    def launch_group(self, tasks: Sequence[Json]) -> None:
        """Launches the containers of all tasks at the same time."""
        if self._shutting_down:
            return
        self._begun = True
        group = _Group()
        for info in tasks:
            container_id = {"value": str(uuid.uuid4()), "parent": self.container_id}
            status = {"container_status": {"container_id": container_id}}
            nested = _Nested(Task(info, self.client, self.settings.executor_id, **status), container_id, group)
            group.members.append(nested)
            self._running[nested.task.task_id] = nested
            nested.task.report("TASK_STARTING")
        if refusals := [reason for nested in group.members if (reason := _refusal(nested.task))]:
            for nested in group.members:
                self._ended(nested, "TASK_FAILED", message=refusals[0])
            return
        for nested in group.members:
            self._spawn(self._live(nested))

    def kill(self, task_id: str, kill: Json) -> None:
        """Ends one task in the time of its policy, and with it its group."""
        nested = self._running.get(task_id)
        if nested is None or self._shutting_down:
            say(f"there is no task {task_id} to kill")
        else:
            self._begin_kill(nested, grace_period(kill, nested.task.info))

    def shut_down(self) -> None:
        """Ends all tasks, and then the executor."""
        if not self._running:
            self.end(0)
        self._shutting_down = True
        for nested in list(self._running.values()):
            self._begin_kill(nested)

    def abandon(self) -> None:
        """The containers of the tasks are nested in that of the executor, and end with it."""
        self.end()

    # The life of a task.

    async def _live(self, nested: _Nested) -> None:
        """From the launch of its container to what the agent says of its end."""
        try:
            await self._operator.insist({"type": "LAUNCH_CONTAINER", "launch_container": self._launch(nested)})
        except Refused as refused:
            self._ended(nested, "TASK_KILLED" if nested.killing else "TASK_FAILED", message=str(refused))
            return
        nested.launched = True
        self.client.accept(nested.task.info)
        _link_sandbox(nested.task.task_id, nested.container_id["value"])
        nested.task.report("TASK_RUNNING")
        if nested.killing:
            self._end_in_time(nested)
        else:
            self._follow(nested)
        wait = {"type": "WAIT_CONTAINER", "wait_container": {"container_id": nested.container_id}}
        try:
            answer = (await self._operator.insist(wait)).get("wait_container", {})
        except Refused as refused:
            unknown = refused.status == _NOT_FOUND
            reason = "Unable to retrieve command's termination information" if unknown else str(refused)
            self._ended(nested, "TASK_KILLED" if nested.killing else "TASK_FAILED", message=reason)
            return
        self._ended(nested, **_outcome(nested, answer))

    def _launch(self, nested: _Nested) -> Json:
        """What the agent is asked for: the container of the task, with the variables of every task of a group."""
        info = nested.task.info
        command = dict(info.get("command", {}))
        environment = dict(command.get("environment", {}))
        own = {"MESOS_CONTAINER_IP": _address(), "MESOS_ALLOCATION_ROLE": role_of(info)}
        variables = [{"name": name, "value": value} for name, value in own.items()]
        environment["variables"] = [*environment.get("variables", ()), *variables]
        command["environment"] = environment
        volumes = [volume for resource in info.get("resources", ()) if (volume := _shared_volume(resource))]
        launch = _amounts(info)
        if "container" in info or volumes:
            container = {"type": "MESOS", **info.get("container", {})}
            launch["container"] = {**container, "volumes": [*container.get("volumes", ()), *volumes]}
        return {**launch, "command": command, "container_id": nested.container_id}

    def _follow(self, nested: _Nested) -> None:
        def exceeded() -> None:
            nested.overtime = True
            self._begin_kill(nested, 0)

        def unhealthy() -> None:
            self._begin_kill(nested, grace_period({}, nested.task.info))

        nested.task.follow(InContainer(self._operator, nested.container_id), exceeded=exceeded, unhealthy=unhealthy)

    def _begin_kill(self, nested: _Nested, period: float = KILL_GRACE_PERIOD) -> None:
        """SIGTERM, as soon as the container is there, and after some time SIGKILL."""
        if nested.killing:
            return
        nested.killing, nested.grace_period = True, period
        nested.task.settle()
        if nested.launched:
            self._end_in_time(nested)

    def _end_in_time(self, nested: _Nested) -> None:
        if self.tells_of_kills and not nested.overtime:
            nested.task.report("TASK_KILLING")
        self._spawn(self._signal(nested, signal.SIGTERM))
        self._escalate_after(nested, nested.grace_period)

    def _escalate_after(self, nested: _Nested, seconds: float) -> None:
        def escalate() -> None:
            self._spawn(self._signal(nested, signal.SIGKILL))

        nested.escalation = asyncio.get_running_loop().call_later(seconds, escalate)

    async def _signal(self, nested: _Nested, number: int) -> None:
        """Sends a signal to the container. A SIGKILL that does not reach the agent is sent again."""
        kill = {"container_id": nested.container_id, "signal": int(number)}
        try:
            await self._operator.call({"type": "KILL_CONTAINER", "kill_container": kill})
        except (Refused, OSError) as error:
            if nested.task.task_id not in self._running:
                return
            if not isinstance(error, Refused) or error.status != _NOT_FOUND:
                say(f"signal {number} did not reach the task {nested.task.task_id}: {error}")
            if number == signal.SIGKILL:
                self._escalate_after(nested, _AGAIN)

    def _ended(self, nested: _Nested, state: str, **more: Any) -> None:
        """Tells how it ended. If that was by a failure or a kill, its group ends, too; and after all, the executor."""
        nested.task.settle()
        if nested.escalation is not None:
            nested.escalation.cancel()
        group = nested.group
        unhealthy = any(each.task.unhealthy for each in group.members)
        nested.task.report(state, healthy=False if unhealthy else None, **more)
        del self._running[nested.task.task_id]
        if state != "TASK_FINISHED" and not group.ending:
            group.ending = True
            for other in group.members:
                if other.task.task_id in self._running:
                    self._begin_kill(other)
        self.end_if_done()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            say(f"the executor failed: {error!r}")
            self.end()


def _refusal(task: Task) -> str | None:
    """Why a task cannot be run, if so."""
    if "/" in task.task_id or task.task_id in (".", ".."):
        return f"the name {task.task_id!r} of the task is no name of a file"
    return task.refusal


def _outcome(nested: _Nested, answer: Json) -> Json:
    """The state of a task whose container has ended, and what the agent knows of it."""
    status = answer.get("exit_status")
    message, reason = "Command terminated with unknown status", None
    if status is not None:
        message = statuses.describe(status)
    if status is not None and nested.overtime:
        state, reason = "TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED"
    elif nested.killing and status is not None:
        state = "TASK_KILLED"
    else:
        state = "TASK_FINISHED" if status == 0 else "TASK_FAILED"
    if "message" in answer:
        message = f"{message}: {answer['message']}"
    return {
        "state": answer.get("state", state),
        "reason": answer.get("reason", reason),
        "message": message,
        "limitation": answer.get("limitation"),
    }


def _amounts(info: Json) -> Json:
    """The resources and limits of a task's container.

    Cgroups that it shares with the executor have what all tasks have; volumes are in the executor's sandbox.
    """
    shares = info.get("container", {}).get("linux_info", {}).get("share_cgroups", True)
    resources = [
        resource
        for resource in info.get("resources", ())
        if "volume" not in resource.get("disk", {}) and not (shares and resource["name"] in _OF_CGROUPS)
    ]
    return {"resources": resources} if shares else {"resources": resources, "limits": info.get("limits", {})}


def _shared_volume(resource: Json) -> Json | None:
    """By what a task sees a volume of its resources: it is in the executor's container, with that of all tasks."""
    volume = resource.get("disk", {}).get("volume")
    if volume is None:
        return None
    path = volume["container_path"]
    source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": path}}
    return {"mode": volume["mode"], "container_path": path, "source": source}


def _link_sandbox(task_id: str, container_id: str) -> None:
    """Makes `tasks/TASK` in the executor's sandbox, by which people find that of a task, as Mesos does."""
    sandbox = Path(os.environ["MESOS_SANDBOX"])
    (sandbox / "tasks").mkdir(exist_ok=True)
    (sandbox / "tasks" / task_id).symlink_to(sandbox / "containers" / container_id)


def _address() -> str:
    """That of the executor's network, which is its tasks': as it was told, unless that says any (`network/cni`)."""
    told = os.environ.get("LIBPROCESS_IP", _ANY)
    if told != _ANY:
        return told
    return next(iter(network.addresses()), _LOOPBACK)
