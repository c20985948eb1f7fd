"""Tasks that somebody brings without a master: read from JSON, or refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from mesocosm.agent.tasks.submission import Submission, new_framework
from mesocosm.api import internal, v1

AGENT = "agent-S0"


def task(name: str = "t", /, **fields: Any) -> dict[str, Any]:
    return {"task_id": {"value": name}, "command": {"value": "true"}, **fields}


def amount(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


def test_a_task_gets_what_a_master_says() -> None:
    submission = Submission.read(task(resources=[amount("cpus", 1)]), AGENT)
    framework = new_framework("name", "somebody", None)
    message = submission.message(framework)
    assert isinstance(message, internal.RunTaskMessage)
    assert message.IsInitialized()
    assert message.launch_executor
    assert (message.task.name, message.task.agent_id.value) == ("t", AGENT)
    assert message.task.resources[0].allocation_info.role == "*"
    assert not framework.checkpoint
    assert framework.user == "somebody"


def test_tasks_of_a_group_share_an_executor() -> None:
    submission = Submission.read({"tasks": [task("a"), task("b", name="second")]}, AGENT)
    message = submission.message(new_framework("name", "root", None))
    assert isinstance(message, internal.RunTaskGroupMessage)
    assert message.IsInitialized()
    assert [each.name for each in message.task_group.tasks] == ["a", "second"]
    assert message.executor.type == v1.ExecutorInfo.DEFAULT


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "no object of JSON"),
        ({"tasks": []}, "at least one"),
        ({"tasks": [3]}, "tasks[0]: this is no TaskInfo"),
        ({"tasks": [task()], "name": "x"}, "no field 'name'"),
        ({"tasks": [task(), task()]}, "two tasks have the id 't'"),
        ({"tasks": [task(executor={"executor_id": {"value": "e"}})]}, "no executor of its own"),
        ({"command": {"value": "true"}}, "task_id"),
        ({"task_id": {"value": "t"}}, "either a command or an executor"),
        (task(executor={"executor_id": {"value": "e"}}), "either a command or an executor"),
        (task("../up"), "'../up'"),
        (task(agent_id={"value": "another"}), "this agent is agent-S0"),
        (task(resources=[amount("cpus", -1)]), "cpus"),
        (task(resources=[amount("gpus", 0.5)]), "gpus"),
        (task(command={"value": 3}), "command.value"),
        (task(nonsense=1), "a TaskInfo has no field nonsense"),
        (task(container={"type": "MESOS", "volume": []}), "no field container.volume"),
        (
            {"tasks": [task(container={"type": "DOCKER", "docker": {"image": "busybox"}})]},
            "Docker ContainerInfo is not supported on the task",
        ),
    ],
)
def test_what_is_wrong_is_said(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Submission.read(value, AGENT)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
