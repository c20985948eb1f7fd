"""Executors that speak libprocess, as older ones do."""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp
import pytest

from mesocosm.agent.tasks.links import ActorLink
from mesocosm.agent.tasks.tasks import ACTOR
from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.task_agent import (
    AGENT_ID,
    FRAMEWORK_ID,
    command_task,
    executor_info,
    framework_info,
    running_agent,
    task_info,
)

pytestmark = pytest.mark.kernel

EXECUTOR = executor_info(script=f"exec {sys.executable} {Path(__file__).parents[1] / 'libprocess_executor.py'}")
IDS = {
    "framework_id": v1.FrameworkID(value=FRAMEWORK_ID),
    "executor_id": v1.ExecutorID(value="shell"),
}


async def test_an_older_executor_runs_tasks(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long", EXECUTOR))
        status = await master.update("long", v1.TASK_RUNNING)
        assert status.source == v1.TaskStatus.SOURCE_EXECUTOR
        assert status.container_status.container_id.value == master.executor().container_id.value
        message = internal.FrameworkToExecutorMessage(slave_id=v1.AgentID(value=AGENT_ID), data=b"abc", **IDS)
        master.tell(message)
        assert (await master.heard(internal.ExecutorToFrameworkMessage)).data == b"cba"
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        executor = master.executor()
        master.tell(internal.ShutdownExecutorMessage(**IDS))
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        said = (executor.directory / "messages").read_text().split()
        assert set(said) == {
            "ExecutorRegisteredMessage",
            "RunTaskMessage",
            "StatusUpdateAcknowledgementMessage",
            "FrameworkToExecutorMessage",
            "KillTaskMessage",
            "ShutdownExecutorMessage",
        }


async def test_an_older_executor_is_asked_to_come_back(flags: Flags) -> None:
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("long", EXECUTOR), checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
        port = before.agent.tasks.registration.address.port
    async with running_agent(flags, port=port) as master:
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        said = (master.executor().directory / "messages").read_text()
        assert said.index("ReconnectExecutorMessage") < said.index("ExecutorReregisteredMessage")


async def test_nobody_sends_messages_for_an_executor_that_speaks_http(flags: Flags) -> None:
    """Else who has no token could be, by messages, what has one."""
    ids = {"framework_id": IDS["framework_id"], "executor_id": v1.ExecutorID(value="own")}
    async with running_agent(flags) as master:
        master.run(command_task("own", "sleep 1000"))
        status = v1.TaskStatus(
            task_id=v1.TaskID(value="own"), agent_id=v1.AgentID(value=AGENT_ID), state=v1.TASK_FINISHED
        )
        update = internal.StatusUpdate(**ids, slave_id=status.agent_id, status=status, timestamp=0, uuid=bytes(16))
        forged = (
            internal.RegisterExecutorMessage(**ids),
            internal.ExecutorToFrameworkMessage(slave_id=status.agent_id, data=b"forged", **ids),
            internal.StatusUpdateMessage(update=update),
        )
        url = f"http://{master.agent.tasks.registration.address.authority}/{ACTOR}"
        headers = {"Libprocess-From": "executor(1)@127.0.0.1:1"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for message in (*forged, *forged):
                async with session.post(
                    f"{url}/{internal.name_of(message)}", data=message.SerializeToString()
                ) as answer:
                    assert answer.status == 202
                await master.update("own", v1.TASK_RUNNING)  # By whom it is registered already.
        master.kill("own")
        await master.update("own", v1.TASK_KILLED)
        assert "TASK_FINISHED" not in master.states("own")
        assert not [each for each in master.said if isinstance(each, internal.ExecutorToFrameworkMessage)]


async def test_a_group_is_not_for_an_older_executor(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long", EXECUTOR))
        await master.update("long", v1.TASK_RUNNING)
        tasks = [task_info(name) for name in "ab"]
        for task in tasks:
            task.ClearField("executor")
        framework = master.agent.tasks.frameworks.get(FRAMEWORK_ID)
        assert framework is not None
        group = v1.TaskGroupInfo(tasks=tasks)
        message = internal.RunTaskGroupMessage(
            framework=framework.info, executor=EXECUTOR, task_group=group, launch_executor=False
        )
        master.tell(message)
        for name in "ab":
            status = await master.update(name, v1.TASK_DROPPED)
            assert status.reason == v1.TaskStatus.REASON_TASK_GROUP_INVALID


async def test_no_task_of_a_group_is_a_container_of_docker(flags: Flags) -> None:
    """A master lets none pass."""
    docker = v1.ContainerInfo(type=v1.ContainerInfo.DOCKER, docker=v1.ContainerInfo.DockerInfo(image="busybox"))
    async with running_agent(flags) as master:
        tasks = [command_task("a", "true"), command_task("b", "true", container=docker)]
        group = v1.TaskGroupInfo(tasks=tasks)
        master.tell(
            internal.RunTaskGroupMessage(
                framework=framework_info(), executor=EXECUTOR, task_group=group, launch_executor=True
            )
        )
        for name in "ab":
            status = await master.update(name, v1.TASK_ERROR)
            assert status.reason == v1.TaskStatus.REASON_TASK_GROUP_INVALID
            assert status.message == "Docker ContainerInfo is not supported on the task"


async def test_an_older_executor_whose_tasks_were_killed_is_told_to_end(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", EXECUTOR))
        directory = master.executor().directory
        master.kill("any")
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        assert (directory / "messages").read_text().split() == ["ShutdownExecutorMessage"]


@pytest.mark.parametrize("asks_again", [True, False])
async def test_an_older_executor_that_comes_back_without_being_asked(flags: Flags, asks_again: bool) -> None:
    """Is told to end, unless it may have been asked more than once: then it has come back already."""
    options = ["--executor_reregistration_retry_interval=1secs"] if asks_again else []
    async with running_agent(flags, *options) as master:
        master.run(task_info("long", EXECUTOR))
        await master.update("long", v1.TASK_RUNNING)
        executor = master.executor()
        assert isinstance(executor.link, ActorLink)
        executor.link.reconnect(v1.AgentID(value=AGENT_ID))
        if asks_again:
            message = internal.FrameworkToExecutorMessage(slave_id=v1.AgentID(value=AGENT_ID), data=b"abc", **IDS)
            master.tell(message)
            await master.heard(internal.ExecutorToFrameworkMessage)  # Which it says after it has come back.
            assert "ExecutorReregisteredMessage" not in (executor.directory / "messages").read_text()
            master.kill("long")
            await master.update("long", v1.TASK_KILLED)
        else:
            assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        assert ("ShutdownExecutorMessage" in (executor.directory / "messages").read_text()) is not asks_again
