"""kill -9 of the launcher process, at any time: containers go on, and the next launch works."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.base import LaunchResult
from mesocosm.errors import ContainerError
from tests.launching import LINUX, TIMEOUT, Launch

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["filesystem/posix", LINUX])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def launcher_pid(launch: Launch) -> int:
    pid = launch.containerizer()._process.pid
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    """Kills, and returns when it has happened; whoever's child it is reaps it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


async def test_while_nothing_is_launched(launch: Launch, isolation: str) -> None:
    container = await launch.sleeping(isolation=isolation)
    kill(launcher_pid(launch))
    assert await launch.output("echo next", isolation=isolation) == "next"
    container.say("end")
    assert await container.wait() == 0


async def test_before_the_first_launch(launch: Launch, isolation: str) -> None:
    launch.containerizer(isolation)
    kill(launcher_pid(launch))
    assert await launch.output("echo first", isolation=isolation) == "first"


async def test_again_and_again(launch: Launch, isolation: str) -> None:
    for number in range(5):
        assert await launch.output(f"echo {number}", isolation=isolation) == str(number)
        kill(launcher_pid(launch))


async def test_while_it_launches(launch: Launch, isolation: str) -> None:
    """A launcher that is stopped has read no request when it dies."""
    running = await launch.sleeping(isolation=isolation)
    containerizer = launch.containerizer()
    pid = launcher_pid(launch)
    stop(pid)
    launches = [
        asyncio.create_task(containerizer.launch(ContainerID(f"x{number}"), ContainerConfig(CommandInfo("exit 0"))))
        for number in range(5)
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    kill(pid)
    results = await asyncio.wait_for(asyncio.gather(*launches, return_exceptions=True), TIMEOUT)
    # What was not begun may be begun again by the next launcher; all else is a clear error.
    assert all(result is LaunchResult.SUCCESS or isinstance(result, ContainerError) for result in results), results
    assert await launch.output("echo next", isolation=isolation) == "next"
    running.say("end")
    assert await running.wait() == 0


async def test_while_it_is_idle_it_holds_nothing_of_a_container(launch: Launch, isolation: str, rootfs: Path) -> None:
    container = await launch.sleeping(isolation=isolation)
    pid = launcher_pid(launch)
    own = {
        str(Path(f"/proc/{await container.pid()}/fd/{number}").readlink()) for number in (3, 4) if isolation == LINUX
    }
    pipes = {str(Path(f"/proc/self/fd/{descriptor}").readlink()) for descriptor in (container.stdin, container.stdout)}
    held = set()
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - /proc is no directory of files.
        held.add(str(Path(f"/proc/{pid}/fd/{name}").readlink()))
    assert not held & (own | pipes)
    container.say("end")
    await container.wait()
