"""Tasks of custom executors: real ones in real containers, which speak the executor API, and a master by messages."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.task_agent import (
    AGENT_ID,
    EXECUTOR,
    FRAMEWORK_ID,
    command_task,
    executor_info,
    framework_info,
    running_agent,
    scalars,
    task_info,
)

pytestmark = pytest.mark.kernel

Status = v1.TaskStatus


async def test_a_task_runs_and_ends(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("quick"))
        status = await master.update("quick", v1.TASK_FINISHED)
        assert master.states("quick") == ["TASK_RUNNING", "TASK_FINISHED"]
        assert (status.source, status.executor_id.value) == (Status.SOURCE_EXECUTOR, "shell")
        executor = master.executor()
        container = status.container_status
        assert container.container_id.value == executor.container_id.value
        assert container.network_infos[0].ip_addresses[0].ip_address == "127.0.0.1"
        assert Path(f"/proc/{container.executor_pid}").exists()
        sandbox = flags.work_dir / f"slaves/{AGENT_ID}/frameworks/{FRAMEWORK_ID}/executors/shell/runs"
        assert executor.directory == sandbox / executor.container_id.value
        assert (sandbox / "latest").samefile(executor.directory)
        master.tell(internal.ShutdownFrameworkMessage(framework_id=v1.FrameworkID(value=FRAMEWORK_ID)))
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert (exited.executor_id.value, exited.status) == ("shell", 0)
        await master.gone()
        events = (executor.directory / "events").read_text()
        assert [kind in events for kind in ("SUBSCRIBED", "LAUNCH", "ACKNOWLEDGED", "SHUTDOWN")] == [True] * 4


async def test_a_killed_task_is_killed_by_its_executor(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        master.kill("long")
        status = await master.update("long", v1.TASK_KILLED)
        assert status.source == Status.SOURCE_EXECUTOR
        master.kill("none such")
        status = await master.update("none such", v1.TASK_DROPPED)
        assert (status.message, status.reason) == ("Cannot find executor", Status.REASON_EXECUTOR_TERMINATED)


async def test_the_container_has_what_its_tasks_have(flags: Flags) -> None:
    async with running_agent(flags) as master:
        containers = master.agent.containerizer
        master.run(task_info("first", resources=scalars(cpus=0.2, mem=64)))
        await master.update("first", v1.TASK_RUNNING)
        container_id = master.executor().container_id

        def given() -> tuple[float | None, float | None]:
            config = containers.config(container_id)
            assert config is not None
            return config.resources.cpus, config.resources.mem

        assert given() == (0.3, 96 << 20)
        master.run(task_info("second", resources=scalars(cpus=0.5, mem=32)))
        await master.update("second", v1.TASK_RUNNING)
        assert given() == (0.8, 128 << 20)
        master.kill("first")
        await master.update("first", v1.TASK_KILLED)
        assert given() == (0.6, 64 << 20)


async def test_tasks_of_a_group_are_launched_together(flags: Flags) -> None:
    async with running_agent(flags) as master:
        group = v1.TaskGroupInfo(tasks=[task_info("a"), task_info("b")])
        for task in group.tasks:
            task.ClearField("executor")
        master.tell(
            internal.RunTaskGroupMessage(
                framework=framework_info(), executor=executor_info(), task_group=group, launch_executor=True
            )
        )
        for name in "ab":
            await master.update(name, v1.TASK_RUNNING)
        events = (master.executor().directory / "events").read_text()
        assert events.count("LAUNCH_GROUP") == 1


async def test_messages_go_both_ways(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        ids = {
            "slave_id": v1.AgentID(value=AGENT_ID),
            "framework_id": v1.FrameworkID(value=FRAMEWORK_ID),
            "executor_id": v1.ExecutorID(value="shell"),
        }
        master.tell(internal.FrameworkToExecutorMessage(**ids, data=b"hello"))
        answer = await master.heard(internal.ExecutorToFrameworkMessage)
        assert answer == internal.ExecutorToFrameworkMessage(**ids, data=b"got it\n")


async def test_the_end_of_an_executor_is_that_of_its_tasks(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        master.run(task_info("quit"))
        for name in ("long", "quit"):
            status = await master.update(name, v1.TASK_FAILED)
            assert (status.reason, status.source) == (Status.REASON_EXECUTOR_TERMINATED, Status.SOURCE_AGENT)
            assert status.message == "Executor terminated"
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == 3 << 8
        await master.gone()


async def test_memory_that_a_task_exceeds_is_why_it_fails(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("hungry"))
        status = await master.update("hungry", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LIMITATION_MEMORY
        assert "Memory limit exceeded" in status.message
        assert status.limitation.resources[0].name == "mem"


async def test_an_executor_that_does_not_register_is_ended(flags: Flags) -> None:
    async with running_agent(flags, "--executor_registration_timeout=10ms") as master:
        master.run(task_info("any", executor_info(script="sleep 1000")))
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_EXECUTOR_REGISTRATION_TIMEOUT
        assert status.message == "Executor did not register within 10ms"
        await master.gone()


async def test_an_executor_that_does_not_end_is_ended(flags: Flags) -> None:
    async with running_agent(flags, "--executor_shutdown_grace_period=50ms") as master:
        master.run(task_info("long", executor_info(script="touch stubborn; . " + str(EXECUTOR))))
        await master.update("long", v1.TASK_RUNNING)
        executor = master.executor()
        master.tell(
            internal.ShutdownExecutorMessage(
                framework_id=v1.FrameworkID(value=FRAMEWORK_ID), executor_id=v1.ExecutorID(value="shell")
            )
        )
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == signal.SIGKILL
        assert "SHUTDOWN" in (executor.directory / "events").read_text()
        await master.update("long", v1.TASK_FAILED)


async def test_a_command_that_is_not_there_fails_the_launch(flags: Flags) -> None:
    async with running_agent(flags) as master:
        command = v1.CommandInfo(shell=False, value="/none/such")
        master.run(task_info("any", executor_info(command=command)))
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
        assert status.message.startswith("Failed to launch container: ")
        await master.gone()


async def test_a_task_that_waits_for_its_executor_is_killed_at_once(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", executor_info(script="sleep 1000")))
        master.kill("any")
        status = await master.update("any", v1.TASK_KILLED)
        assert status.reason == Status.REASON_TASK_KILLED_DURING_LAUNCH
        assert status.message == "Killed before delivery to the executor"


async def test_an_executor_without_tasks_is_told_to_end(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", executor_info()))
        master.kill("any")
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == 0
        await master.gone()


async def test_a_command_runs_in_an_executor_of_its_own(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(command_task("command", "echo hello; exit 0"))
        status = await master.update("command", v1.TASK_FINISHED)
        assert status.message == "Command exited with status 0"
        assert master.states("command") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        await master.gone()
        (framework,) = master.agent.tasks.frameworks.completed.values()
        (executor,) = framework.completed_executors
        assert executor.info.name == "Command Executor (Task: command) (Command: sh -c 'echo hello; ...')"
        assert (executor.directory / "stdout").read_text().splitlines()[-1:] == ["hello"]
        assert not any(isinstance(each, internal.ExitedExecutorMessage) for each in master.said)


async def test_a_command_is_killed(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(command_task("command", "sleep 1000"))
        await master.update("command", v1.TASK_RUNNING)
        master.kill("command")
        status = await master.update("command", v1.TASK_KILLED)
        assert status.message == "Command terminated with signal Terminated"
        await master.gone()
