"""Checks of tasks in groups by a command, which is a session in the container of the task; and terminals of tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import internal, v1
from mesocosm.container import ContainerID
from mesocosm.flags import Flags
from tests.command_line import TIMEOUT
from tests.task_agent import Master, command_task, running_agent
from tests.task_groups import EXECUTOR, run, task

pytestmark = pytest.mark.kernel
CHECKED = v1.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED
SOON = {"delay_seconds": 0, "interval_seconds": 0.05, "timeout_seconds": 30}


def check(script: str, **fields: Any) -> v1.CheckInfo:
    command = v1.CheckInfo.Command(command=v1.CommandInfo(value=script))
    return v1.CheckInfo(type=v1.CheckInfo.COMMAND, command=command, **{**SOON, **fields})


def health(script: str, **fields: Any) -> v1.HealthCheck:
    command = v1.CommandInfo(value=script)
    times = {**SOON, "grace_period_seconds": 0, "consecutive_failures": 1}
    return v1.HealthCheck(type=v1.HealthCheck.COMMAND, command=command, **{**times, **fields})


async def answered(master: Master, name: str, code: int) -> None:
    """Returns when the check of a task has been answered with that exit code."""

    def tells(message: internal.StatusUpdateMessage) -> bool:
        status = message.update.status
        answer = status.check_status.command
        return status.task_id.value == name and answer.HasField("exit_code") and answer.exit_code == code

    message = await master.heard(internal.StatusUpdateMessage, tells)
    assert message.update.status.reason == CHECKED


async def healthy(master: Master, name: str) -> bool:
    """What is told of a task's health for the first time."""

    def tells(message: internal.StatusUpdateMessage) -> bool:
        status = message.update.status
        return status.task_id.value == name and status.HasField("healthy")

    return (await master.heard(internal.StatusUpdateMessage, tells)).update.status.healthy


async def test_the_command_is_where_the_task_is(flags: Flags) -> None:
    """With its environment, its directory and its processes; and its answers are told as they change."""
    own = v1.Environment(variables=[v1.Environment.Variable(name="OWN", value="x y")])
    command = v1.CommandInfo(value="touch here; exec sleep 1000", environment=own)
    script = '[ "$OWN" = "x y" ] && [ -e here ] && grep -q sleep /proc/[0-9]*/comm || exit 9; [ -e flag ]'
    async with running_agent(flags) as master:
        run(master, [task("a", command=command, check=check(script))])
        await answered(master, "a", 1)
        sandbox = master.executor(EXECUTOR).directory
        assert (sandbox / "tasks/a/here").exists()
        (sandbox / "tasks/a/flag").touch()
        await answered(master, "a", 0)
        (sandbox / "tasks/a/flag").unlink()
        await answered(master, "a", 1)
        master.kill("a")
        await master.update("a", v1.TASK_KILLED)
        await master.gone()


async def test_a_check_without_an_answer(flags: Flags) -> None:
    """What was known of the task is known no more."""
    script = "test -e asked && exec sleep 60; touch asked; exit 1"
    async with running_agent(flags) as master:
        run(master, [task("a", check=check(script, timeout_seconds=2))])
        await answered(master, "a", 1)

        def is_empty(message: internal.StatusUpdateMessage) -> bool:
            status = message.update.status
            return status.reason == CHECKED and not status.check_status.command.HasField("exit_code")

        message = await master.heard(internal.StatusUpdateMessage, is_empty)
        assert message.update.status.check_status.HasField("command")
        master.kill("a")
        await master.update("a", v1.TASK_KILLED)
        await master.gone()


async def test_what_a_check_prints_is_the_executors(flags: Flags) -> None:
    async with running_agent(flags) as master:
        run(master, [task("a", check=check("echo asked; exit 3"))])
        await answered(master, "a", 3)
        sandbox = master.executor(EXECUTOR).directory
        assert "asked" in (sandbox / "stderr").read_text()
        assert (sandbox / "tasks/a/stdout").read_text() == ""


@pytest.mark.parametrize("script", ["false", "sleep 1000", "/nonesuch", "kill -9 $$"])
async def test_a_task_that_is_not_healthy_is_killed(flags: Flags, script: str) -> None:
    """Nothing is left of the container of a check, also if that takes too long."""
    seconds = 0.3 if script.startswith("sleep") else 30
    async with running_agent(flags) as master:
        run(master, [task("a", health_check=health(script, timeout_seconds=seconds))])
        assert not await healthy(master, "a")
        status = await master.update("a", v1.TASK_KILLED)
        assert not status.healthy
        await master.gone()


async def test_both_kinds_of_checks(flags: Flags) -> None:
    """One after the other, and none in the way of the other; what they have been is removed."""
    async with running_agent(flags) as master:
        run(master, [task("a", check=check("exit 2"), health_check=health("true"))])
        await answered(master, "a", 2)
        assert await healthy(master, "a")
        containers = master.agent.containerizer
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while len(containers.terminated()) > 4:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)


# Terminals.


def terminal() -> v1.ContainerInfo:
    size = v1.TTYInfo.WindowSize(rows=30, columns=100)
    return v1.ContainerInfo(type=v1.ContainerInfo.MESOS, tty_info=v1.TTYInfo(window_size=size))


SCRIPT = 'tty && stty size && [ "$(ps -o tty= -p $$)" != "?" ] && read -r line && echo "got $line" && exec sleep 1000'


async def typed_into(master: Master, container_id: ContainerID, log: Path) -> None:
    """Sees that the container has a terminal, types into it, and ends it by ^C."""
    async with asyncio.timeout(TIMEOUT), master.agent.switchboard.input(container_id) as keyboard:
        await _written(log, b"\r\n30 100\r\n")  # What is typed before is before it.
        assert await keyboard.write(b"it\n")
        await _written(log, b"got it\r\n")
        assert await keyboard.write(b"\x03")
    assert log.read_bytes().startswith(b"/dev/pts/")


async def _written(log: Path, text: bytes) -> None:
    while text not in log.read_bytes():  # noqa: ASYNC110 - of what is written there is no event.
        await asyncio.sleep(0.01)


async def test_a_task_with_a_terminal(flags: Flags) -> None:
    """It is the task that has it, and not its executor, which says what it has to say elsewhere."""
    async with running_agent(flags) as master:
        master.run(command_task("a", SCRIPT, container=terminal()))
        await master.update("a", v1.TASK_RUNNING)
        executor = master.executor("a")
        await typed_into(master, executor.container_id, executor.directory / "stdout")
        status = await master.update("a", v1.TASK_FAILED)
        assert status.message == "Command terminated with signal Interrupt"
        await master.gone()


async def test_a_task_of_a_group_with_a_terminal(flags: Flags) -> None:
    async with running_agent(flags) as master:
        run(master, [task("a", SCRIPT, container=terminal())])
        status = await master.update("a", v1.TASK_RUNNING)
        executor = master.executor(EXECUTOR)
        container_id = ContainerID(status.container_status.container_id.value, executor.container_id)
        await typed_into(master, container_id, executor.directory / "tasks/a/stdout")
        status = await master.update("a", v1.TASK_FAILED)
        assert status.message == "Command terminated with signal Interrupt"
        await master.gone()
