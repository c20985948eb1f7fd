"""A task, from its arrival at the agent until the master knows how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mesocosm.agent.tasks.states import is_terminal
from mesocosm.api import v1


class Stage(enum.Enum):
    """Where a task is on its way; there is no way back.

    QUEUED until it is given to its executor, TERMINATED until its last update is acknowledged.
    """

    QUEUED = "queued"
    LAUNCHED = "launched"
    TERMINATED = "terminated"
    COMPLETED = "completed"


_NEXT = {
    Stage.QUEUED: {Stage.LAUNCHED, Stage.TERMINATED},
    Stage.LAUNCHED: {Stage.TERMINATED},
    Stage.TERMINATED: {Stage.COMPLETED},
    Stage.COMPLETED: set[Stage](),
}


class Refused(Exception):
    """A status that a task cannot take on any more."""


@dataclass(slots=True, eq=False)
class Task:
    """What is known of a task: `message` is that, as masters and /state want it.

    `info` is what the framework asked for; None after a recovery, as it was given to the executor before. `group` has
    the tasks that run with it or not at all. `recorded` if it is on disk.
    """

    message: v1.Task
    info: v1.TaskInfo | None = None
    group: tuple[Task, ...] = ()
    stage: Stage = Stage.QUEUED
    recorded: bool = False

    @classmethod
    def create(cls, info: v1.TaskInfo, framework_id: str) -> Task:
        """One that has just arrived."""
        return cls(_message(info, framework_id), info)

    @property
    def id(self) -> str:
        """Its name, which its framework gave it."""
        return self.message.task_id.value

    def enter(self, stage: Stage) -> None:
        """Goes on to `stage`, which has to be possible."""
        assert stage in _NEXT[self.stage], f"task {self.id}: {self.stage} to {stage}"
        self.stage = stage

    def take_on(self, status: v1.TaskStatus) -> None:
        """Is in the state of `status` from now on, of which several in a row count as the last. Raises Refused."""
        ended = is_terminal(status.state)
        if self.stage in (Stage.TERMINATED, Stage.COMPLETED):
            raise Refused(f"it has ended already, with {v1.TaskState.Name(self.message.state)}")
        if self.stage is Stage.QUEUED and not ended:
            raise Refused("it has not been given to its executor")
        if self.message.statuses and self.message.statuses[-1].state == status.state:
            del self.message.statuses[-1]
        self.message.statuses.append(status)
        self.message.state = status.state
        if ended:
            self.enter(Stage.TERMINATED)


def _message(info: v1.TaskInfo, framework_id: str) -> v1.Task:
    """As `protobuf::createTask` of Mesos (common/protobuf_utils.cpp)."""
    message = v1.Task(
        name=info.name,
        task_id=info.task_id,
        framework_id=v1.FrameworkID(value=framework_id),
        agent_id=info.agent_id,
        state=v1.TASK_STAGING,
        resources=info.resources,
        limits=info.limits,
    )
    for field in ("labels", "discovery", "container", "health_check", "kill_policy"):
        if info.HasField(field):
            getattr(message, field).CopyFrom(getattr(info, field))
    if info.HasField("executor"):
        message.executor_id.CopyFrom(info.executor.executor_id)
    user = next((each.user for each in (info.command, info.executor.command) if each.HasField("user")), None)
    if user is not None:
        message.user = user
    return message
