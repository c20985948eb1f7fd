"""Tasks on their way to their executor: in which order they come, and what becomes of them if something happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.task_agent import (
    EXECUTOR,
    FRAMEWORK_ID,
    Master,
    command_task,
    executor_info,
    framework_info,
    running_agent,
    task_info,
)

pytestmark = pytest.mark.kernel

Status = v1.TaskStatus
IDS = {"framework_id": v1.FrameworkID(value=FRAMEWORK_ID), "executor_id": v1.ExecutorID(value="shell")}


def run_group(master: Master, names: Sequence[str], executor: v1.ExecutorInfo | None = None) -> None:
    tasks = [task_info(name) for name in names]
    for task in tasks:
        task.ClearField("executor")
    launch = master.agent.tasks.frameworks.executor(FRAMEWORK_ID, "shell") is None
    master.tell(
        internal.RunTaskGroupMessage(
            framework=framework_info(),
            executor=executor or executor_info(),
            task_group=v1.TaskGroupInfo(tasks=tasks),
            launch_executor=launch,
        )
    )


async def test_a_group_that_waits_is_killed_with_one_of_its_tasks(flags: Flags) -> None:
    """Its executor never hears of it, and is told to end when it comes."""
    async with running_agent(flags) as master:
        run_group(master, "ab")
        directory = master.executor().directory
        master.kill("b")
        for name in "ab":
            status = await master.update(name, v1.TASK_KILLED)
            assert status.reason == Status.REASON_TASK_KILLED_DURING_LAUNCH
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == 0
        await master.gone()
        assert "LAUNCH" not in (directory / "events").read_text()


async def test_tasks_that_wait_are_killed_one_by_one(flags: Flags) -> None:
    async with running_agent(flags) as master:
        for name in "ab":
            master.run(task_info(name))
        for name in "ab":
            master.kill(name)
            await master.update(name, v1.TASK_KILLED)
        await master.gone()


@pytest.mark.parametrize("killed", [0, 2])
async def test_groups_that_wait_for_the_same_executor(flags: Flags, killed: int) -> None:
    """The end of one is nothing to the others, be it the one that the executor was launched for."""
    groups = ["ab", "cd", "ef"]
    async with running_agent(flags) as master:
        for names in groups:
            run_group(master, names)
        master.run(task_info("single"))
        dead = groups.pop(killed)
        master.kill(dead[0])
        for name in dead:
            await master.update(name, v1.TASK_KILLED)
        for name in (*"".join(groups), "single"):
            await master.update(name, v1.TASK_RUNNING)
        events = (master.executor().directory / "events").read_text()
        assert events.count("LAUNCH_GROUP") == 2


async def test_tasks_reach_their_executor_in_the_order_in_which_they_came(flags: Flags) -> None:
    async with running_agent(flags) as master:
        for name in ("t1", "t2"):
            master.run(task_info(name))
        run_group(master, ["t3", "t4"])
        master.run(task_info("t5"))
        for name in ("t6", "t7"):
            await master.update("t5", v1.TASK_RUNNING)
            master.run(task_info(name))
        await master.update("t7", v1.TASK_RUNNING)
        running = [
            each.update.status.task_id.value for each in master.said if isinstance(each, internal.StatusUpdateMessage)
        ]
        assert running == [f"t{number}" for number in range(1, 8)]


async def test_a_task_that_comes_as_its_executor_is_told_to_end(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits as one of that executor, and fails with it."""
    settled = asyncio.Event()
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        monkeypatch.setattr(master.agent.tasks.reservations, "settled", settled.wait)
        master.run(task_info("late"))
        master.tell(internal.ShutdownExecutorMessage(**IDS))
        settled.set()
        status = await master.update("late", v1.TASK_FAILED)
        assert status.reason == Status.REASON_EXECUTOR_TERMINATED
        assert master.states("late") == ["TASK_FAILED"]
        await master.gone()


async def test_a_task_whose_executor_is_that_of_another(flags: Flags) -> None:
    """A command has an executor of its own, which is called as the task."""
    async with running_agent(flags) as master:
        master.run(task_info("long", executor_info("same")))
        await master.update("long", v1.TASK_RUNNING)
        master.run(command_task("same", "true"), launch=True)
        status = await master.update("same", v1.TASK_DROPPED)
        assert status.reason == Status.REASON_TASK_INVALID
        assert status.message == "Cannot reuse an already existing executor for a command task"


async def test_an_executor_that_ends_before_it_has_come(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", executor_info(script="exit 5")))
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_EXECUTOR_TERMINATED
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 5 << 8
        await master.gone()


async def test_files_that_do_not_come_in_time(flags: Flags) -> None:
    """The time that an executor has to register is that of its files, too."""

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running_agent(flags, "--executor_registration_timeout=1secs") as master:
        executor = executor_info()
        executor.command.uris.add(value=f"http://127.0.0.1:{port}/file")
        master.run(task_info("any", executor))
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_EXECUTOR_REGISTRATION_TIMEOUT
        await master.gone()


async def test_tasks_that_wait_are_killed_where_the_agent_is_drained(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", executor_info(script="sleep 1000")))
        master.tell(internal.DrainSlaveMessage(config=v1.DrainConfig()))
        status = await master.update("any", v1.TASK_KILLED)
        assert status.reason == Status.REASON_AGENT_DRAINING


async def test_a_user_that_there_is_not(flags: Flags) -> None:
    async with running_agent(flags) as master:
        task = command_task("any", "true")
        task.command.user = "none-such"
        master.run(task)
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
        assert "none-such" in status.message


async def test_a_command_without_a_user_is_its_frameworks(flags: Flags) -> None:
    """And one with a user is that one's."""
    async with running_agent(flags) as master:
        own = command_task("own", "test $(id -un) = daemon")
        own.command.user = "daemon"
        master.run(own, identity="own")
        await master.update("own", v1.TASK_FINISHED)
        for user in ("root", "nobody"):
            master.run(command_task(user, f"test $(id -un) = {user}"), user=user, identity=user)
            await master.update(user, v1.TASK_FINISHED)


async def test_the_environment_of_an_executor(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the flag says, and nothing of the agent's."""
    monkeypatch.setenv("OF_THE_AGENT", "secret")
    variables = '--executor_environment_variables={"PATH": "/bin:/usr/bin", "GIVEN": "by the flag"}'
    script = f'[ "$GIVEN" = "by the flag" -a -z "$OF_THE_AGENT" -a $PATH = /bin:/usr/bin ] || exit 4; . {EXECUTOR}'
    async with running_agent(flags, variables) as master:
        master.run(task_info("quick", executor_info(script=script)))
        await master.update("quick", v1.TASK_FINISHED)


async def test_so_many_executors_that_have_ended_are_remembered(flags: Flags) -> None:
    async with running_agent(flags, "--max_completed_executors_per_framework=1") as master:
        for name in ("a", "b"):
            master.run(command_task(name, "true"))
            await master.update(name, v1.TASK_FINISHED)
            await master.gone()
        (framework,) = master.agent.tasks.frameworks.completed.values()
        assert [executor.id for executor in framework.completed_executors] == ["b"]


async def test_a_kill_takes_no_longer_than_the_task(flags: Flags) -> None:
    """The time of the policy is the longest that it may take."""
    policy = v1.KillPolicy(grace_period=v1.DurationInfo(nanoseconds=10**15))
    async with running_agent(flags) as master:
        master.run(command_task("any", "exec sleep 1000", kill_policy=policy))
        await master.update("any", v1.TASK_RUNNING)
        master.kill("any")
        await master.update("any", v1.TASK_KILLED)
        await master.gone()
