"""Tasks without a master: what whoever brought them is told."""

from __future__ import annotations

import uuid

from google.protobuf.message import Message

from mesocosm.agent.tasks.local import MOST_WAITING, Run
from mesocosm.agent.tasks.submission import Submission, new_framework
from mesocosm.api import internal, v1

TASK = {"task_id": {"value": "t"}, "command": {"value": "true"}}


class Said:
    """A run, and what it has the agent do."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.forgotten: list[str] = []
        framework = new_framework("tests", "root", None)
        self.run = Run(Submission.read(TASK, "S0"), framework, self.messages.append, self.forgotten.append)


def status(state: v1.TaskState) -> v1.TaskStatus:
    return v1.TaskStatus(task_id=v1.TaskID(value="t"), state=state, uuid=uuid.uuid4().bytes)


async def test_each_status_is_told_once() -> None:
    said = Said()
    running, finished = status(v1.TASK_RUNNING), status(v1.TASK_FINISHED)
    for each in (running, running, finished):
        said.run.take(each)
    assert [each async for each in said.run.statuses()] == [running, finished]


async def test_the_tasks_of_who_does_not_listen_are_ended() -> None:
    """What is kept for him is not much, and he is not told of an end that nobody has seen."""
    said = Said()
    for _ in range(MOST_WAITING):
        said.run.take(status(v1.TASK_RUNNING))
    assert said.messages == []
    said.run.take(status(v1.TASK_RUNNING))
    (message,) = said.messages
    assert isinstance(message, internal.ShutdownFrameworkMessage)
    assert said.forgotten == [said.run.framework_id]
    assert len([each async for each in said.run.statuses()]) == MOST_WAITING
