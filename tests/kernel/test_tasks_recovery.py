"""Executors that outlive their agent, and what the next one makes of them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesocosm.api import v1
from mesocosm.flags import Flags
from tests.command_line import TIMEOUT
from tests.kernel.test_executor_access import post
from tests.task_agent import (
    AGENT_ID,
    EXECUTOR,
    FRAMEWORK_ID,
    Master,
    command_task,
    executor_info,
    running_agent,
    task_info,
)

pytestmark = pytest.mark.kernel

Status = v1.TaskStatus


@asynccontextmanager
async def left_running(flags: Flags, task: v1.TaskInfo, *, checkpoint: bool = True) -> AsyncIterator[Master]:
    """An agent with a task that runs; in the end the agent is gone, and the task is not."""
    async with running_agent(flags, destroys=False) as master:
        master.run(task, checkpoint=checkpoint)
        await master.update(task.task_id.value, v1.TASK_RUNNING)
        yield master


def port_of(master: Master) -> int:
    return master.agent.tasks.registration.address.port


@pytest.mark.parametrize("command", [False, True])
async def test_an_executor_comes_back(flags: Flags, command: bool) -> None:
    task = command_task("long", "sleep 1000") if command else task_info("long")
    async with left_running(flags, task) as before:
        container_id = before.executor("long" if command else "shell").container_id
    async with running_agent(flags, port=port_of(before)) as master:
        assert master.executor("long" if command else "shell").container_id == container_id
        known = master.agent.tasks.reregistration()
        assert [each.state for each in known.tasks] == [v1.TASK_RUNNING]
        assert [each.id.value for each in known.frameworks] == ["framework-0000"]
        assert [each.executor_id.value for each in known.executor_infos] == ([] if command else ["shell"])
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)


async def test_who_asks_an_agent_that_ends_is_to_ask_again(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not told that there is no such container: an executor would take it for one that has ended."""
    answers = []
    async with left_running(flags, task_info("long")) as before:
        wait = {"container_id": {"value": before.executor().container_id.value}}
        close = before.agent.containerizer.close

        async def close_and_ask() -> None:
            await close()
            answers.append(await post(before, "/api/v1", {"type": "WAIT_CONTAINER", "wait_container": wait}, None))

        monkeypatch.setattr(before.agent.containerizer, "close", close_and_ask)
    assert answers == [503]
    async with running_agent(flags, port=port_of(before)) as master:
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)


async def test_what_was_not_acknowledged_is_sent_again(flags: Flags) -> None:
    async with running_agent(flags, destroys=False) as before:
        before.acknowledges = False
        before.run(task_info("long"), checkpoint=True)
        status = await before.update("long", v1.TASK_RUNNING)
    async with running_agent(flags, port=port_of(before)) as master:
        again = await master.update("long", v1.TASK_RUNNING)
        assert again == status


async def test_the_end_of_an_executor_without_agent_is_told(flags: Flags) -> None:
    async with left_running(flags, task_info("long")) as before:
        pid = await pid_of(before)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert await asyncio.to_thread(select.select, [descriptor], [], [], TIMEOUT) == ([descriptor], [], [])
    os.close(descriptor)
    async with running_agent(flags, port=port_of(before)) as master:
        status = await master.update("long", v1.TASK_FAILED)
        assert status.reason == Status.REASON_EXECUTOR_TERMINATED
        assert status.source == Status.SOURCE_AGENT
        await master.gone()


@pytest.mark.parametrize(("aware", "state"), [(True, v1.TASK_GONE), (False, v1.TASK_LOST)])
async def test_an_executor_that_does_not_come_back_is_ended(flags: Flags, aware: bool, state: v1.TaskState) -> None:
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("long"), aware=aware, checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
    # It looks for the agent where that was.
    async with running_agent(flags, "--executor_reregistration_timeout=0ns") as master:
        status = await master.update("long", state)
        assert status.reason == Status.REASON_EXECUTOR_REREGISTRATION_TIMEOUT
        assert status.message == "Executor did not reregister within 0ns"
        await master.gone()


async def test_an_executor_of_a_framework_that_does_not_checkpoint_ends_with_the_agent(flags: Flags) -> None:
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("any", executor_info(script=f"(. {EXECUTOR}); sleep 1000")))
        await before.update("any", v1.TASK_RUNNING)
        assert not (flags.work_dir / "meta/slaves" / AGENT_ID / "frameworks").exists(), "nothing is on record"
    async with running_agent(flags, port=port_of(before)) as master:
        assert not await master.agent.containerizer.containers()
        assert len(master.agent.tasks.frameworks) == 0


async def pid_of(master: Master) -> int:
    status = await master.agent.containerizer.status(master.executor().container_id)
    assert status.executor_pid is not None
    return status.executor_pid


async def test_what_cannot_be_recovered_is_ended_and_removed(flags: Flags) -> None:
    """And nothing but that: the directory of the agent, which is as old, is in use."""
    async with left_running(flags, task_info("long")) as before:
        executor = before.executor().directory.parents[1]
    agents = flags.work_dir / "slaves" / AGENT_ID, flags.work_dir / "meta/slaves" / AGENT_ID
    kept, known = (agent / "frameworks" / FRAMEWORK_ID / "executors/shell" for agent in agents)
    assert kept == executor
    (known / "runs/latest").unlink()
    async with running_agent(flags, "--gc_delay=0secs", port=port_of(before)) as master:
        assert not await master.agent.containerizer.containers()
        removed = asyncio.Event()
        master.agent.sandboxes.tell(lambda _: removed.set())
        async with asyncio.timeout(TIMEOUT):
            while kept.exists() or known.exists():
                await removed.wait()
                removed.clear()
        assert all(agent.exists() for agent in agents)
