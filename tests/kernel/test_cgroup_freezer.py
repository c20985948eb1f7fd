"""Freezing stops processes, and killing ends them, whatever they are and whoever froze them."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mesocosm.linux import cgroup
from mesocosm.linux.cgroup.freezer import kill_each
from tests.kernel.cgroup_support import Blocked, a_group, alive, blocked

pytestmark = pytest.mark.kernel
Kill = Callable[[str], Awaitable[None]]
ECHO = "while read -r line; do echo $line; done"
# Each process starts the next and ends, so that none is there for long. There is an end, should a kill fail.
RELAY = """\
f() { [ $1 -lt 5000 ] && { f $(($1 + 1)) & echo $1; }; }
i=0; while [ $i -lt 40 ]; do f 0 & i=$((i + 1)); done
f 0"""


@pytest.fixture(params=["freezer", "unified"])
async def group(request: pytest.FixtureRequest, cgroups_root: str) -> AsyncIterator[str]:
    """A cgroup that can be frozen."""
    group = a_group(request.param, cgroups_root)
    cgroup.create(group)
    yield group
    await cgroup.destroy(group, 5)


@pytest.fixture(params=["kill", "kill_each"])
def kill(request: pytest.FixtureRequest) -> Kill:
    """Both ways, which on cgroup v1 are one."""
    ways: dict[str, Kill] = {"kill": cgroup.kill, "kill_each": kill_each}
    return ways[request.param]


def answers(process: Blocked, milliseconds: int) -> bool:
    poll = select.poll()
    assert process.process.stdout
    poll.register(process.process.stdout, select.POLLIN)
    return bool(poll.poll(milliseconds))


async def assert_relay_ends(group: str, process: Blocked, kill: Kill) -> None:
    cgroup.assign(group, process.pid)
    process.release()
    while process.read() != "10":
        pass
    assert cgroup.processes(group)
    await asyncio.wait_for(kill(group), 20)
    assert cgroup.processes(group) == []


async def test_freeze_and_thaw(group: str) -> None:
    with blocked(ECHO) as frozen, blocked(ECHO) as other:
        cgroup.create(f"{group}/a")
        cgroup.assign(f"{group}/a", frozen.pid)
        frozen.release()
        other.release()
        await cgroup.freeze(group)
        frozen.write("x")
        other.write("y")
        assert answers(other, 10_000)
        assert not answers(frozen, 200)
        cgroup.thaw(group)
        assert answers(frozen, 10_000)


async def test_kill_everything_below_and_nothing_beside(group: str, kill: Kill) -> None:
    stubborn = "trap '' TERM INT HUP; read -r end"
    with blocked(stubborn) as one, blocked(stubborn) as two, blocked(stubborn) as beside:
        for name, process in (("a/b", one), ("a", two), ("beside", beside)):
            cgroup.create(f"{group}/{name}")
            cgroup.assign(f"{group}/{name}", process.pid)
            process.release()
        await asyncio.wait_for(kill(f"{group}/a"), 10)
        assert [one.wait(), two.wait()] == [-9, -9]
        assert alive(beside.pid)
        assert cgroup.processes(group, recursive=True) == [beside.pid]


@pytest.mark.parametrize("where", ["", "/a", "/a/b"])
async def test_what_is_frozen_dies(group: str, kill: Kill, where: str) -> None:
    """A container can freeze itself, all or a part of it, and its parent can be frozen."""
    cgroup.create(f"{group}/a/b")
    with blocked("read -r end") as one, blocked("read -r end") as two:
        cgroup.assign(f"{group}/a", one.pid)
        cgroup.assign(f"{group}/a/b", two.pid)
        await cgroup.freeze(f"{group}{where}")
        await asyncio.wait_for(kill(f"{group}/a"), 10)
        assert [one.wait(), two.wait()] == [-9, -9]


async def test_what_is_stopped_dies(group: str, kill: Kill) -> None:
    with blocked("read -r end") as process:
        cgroup.assign(group, process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # noqa: ASYNC222 - it stops at once.
        await asyncio.wait_for(kill(group), 10)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_what_is_traced_dies(group: str, kill: Kill) -> None:
    with blocked("read -r end") as process:
        cgroup.assign(group, process.pid)
        command = ["strace", "-p", str(process.pid), "-o", "/dev/null"]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        await asyncio.wait_for(kill(group), 10)
        assert process.wait() == -signal.SIGKILL
        tracer.communicate(timeout=60)


async def test_kill_is_faster_than_a_fork_loop(group: str, kill: Kill) -> None:
    with blocked(RELAY) as process:
        await assert_relay_ends(group, process, kill)


async def test_kill_of_nothing(group: str, kill: Kill) -> None:
    await kill(group)
    cgroup.remove(group)
    await kill(group)


async def test_kill_without_a_freezer(cgroups_root: str) -> None:
    """It is done again until none is left, as what is not frozen forks meanwhile."""
    group = a_group("pids", cgroups_root)
    cgroup.create(group)
    with blocked(RELAY) as process:
        await assert_relay_ends(group, process, cgroup.kill)
    await cgroup.destroy(group, 5)
