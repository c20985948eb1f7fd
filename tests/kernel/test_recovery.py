"""What becomes of containers when the process that launched them is gone, and another takes over."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, LinuxInfo
from mesocosm.containerizer import mesos
from mesocosm.containerizer.base import LaunchResult
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import ContainerError, FlagError, RecoveryError
from mesocosm.flags import Flags
from mesocosm.launcher.channel import Channel
from tests.faults.support import running
from tests.launching import LINUX, TIMEOUT, Launch
from tests.machine import await_end

pytestmark = pytest.mark.kernel
X = ContainerID("x")
BLOCKED = "mkfifo end; echo up > up; read -r status < end; exit $status"


@pytest.fixture(
    params=[*(pytest.param(name, marks=pytest.mark.slow) for name in ("filesystem/posix", "filesystem/linux")), LINUX]
)
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def end_of(containerizer: MesosContainerizer, container_id: ContainerID = X) -> int | None:
    return (await asyncio.wait_for(containerizer.wait(container_id), TIMEOUT)).exit_status


def release(flags: Flags, status: int) -> None:
    """Lets the command of BLOCKED end; it may not have come so far yet."""
    fifo = flags.work_dir / "containers/x/end"
    subprocess.run(
        ["sh", "-c", f"until [ -p {fifo} ]; do :; done; echo {status} > {fifo}"], check=True, timeout=TIMEOUT
    )


async def test_a_container_survives_kill_9_of_its_launcher(flags: Flags, isolation: str) -> None:
    flags = replace(flags, isolation=isolation)
    with running(flags, command=BLOCKED) as (_, pid):
        pass
    os.kill(pid, 0)
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover()
        assert await containerizer.containers() == {X}
        assert (await containerizer.status(X)).executor_pid == pid
        assert await containerizer.launch(X, ContainerConfig(CommandInfo("true"))) is LaunchResult.ALREADY_LAUNCHED
        waiting = asyncio.create_task(end_of(containerizer))
        release(flags, 23)
        assert await waiting == 23
        await containerizer.remove(X)


@pytest.mark.slow
async def test_the_status_of_one_that_ended_while_nobody_was_there(flags: Flags, isolation: str) -> None:
    flags = replace(flags, isolation=isolation)
    with running(flags, command=BLOCKED) as (_, pid):
        (command,) = await asyncio.to_thread(_children, pid)
    release(flags, 42)
    await_end(command, asyncio.get_running_loop().time() + TIMEOUT)
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover()
        assert await end_of(containerizer) == 42
        await containerizer.remove(X)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
async def test_a_signal_and_a_destroy_reach_a_recovered_container(flags: Flags, isolation: str) -> None:
    flags = replace(flags, isolation=isolation)
    with running(flags, command="trap 'exit 9' TERM; while :; do sleep 1; done"):
        pass
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover()
        assert await containerizer.kill(X, signal.SIGTERM)
        assert await end_of(containerizer) in (9, 143)
        await containerizer.remove(X)


async def test_a_command_that_may_run_survives_a_close(
    flags: Flags, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does a kill: its containerizer only was not told yet that it runs."""
    flags = replace(flags, isolation=isolation)
    released = asyncio.Event()

    async def hear_nothing(_: Channel) -> None:
        released.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "report", hear_nothing)
        before = MesosContainerizer(flags)
        before.start()
        launching = asyncio.create_task(before.launch(X, ContainerConfig(CommandInfo(BLOCKED))))
        await released.wait()
        await before.close()
    with pytest.raises(ContainerError, match="x goes on, and its containerizer is closed"):
        await launching
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover()
        waiting = asyncio.create_task(end_of(containerizer))
        release(flags, 7)
        assert await waiting == 7
        await containerizer.remove(X)


async def test_an_init_that_was_killed_meanwhile(flags: Flags, isolation: str) -> None:
    flags = replace(flags, isolation=isolation)
    with running(flags) as (_, pid):
        pass
    os.kill(pid, signal.SIGKILL)
    await_end(pid, asyncio.get_running_loop().time() + TIMEOUT)
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover()
        termination = await asyncio.wait_for(containerizer.wait(X), TIMEOUT)
        assert termination.status is None
        assert "unknown" in (termination.message or "")
        await containerizer.remove(X)


async def test_orphans_are_destroyed_with_everything(flags: Flags, isolation: str) -> None:
    flags = replace(flags, isolation=isolation)
    with running(flags) as (_, pid):
        pass
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover(known=[])
        assert await containerizer.containers() == set()
        await_end(pid, asyncio.get_running_loop().time())
        assert list((flags.runtime_dir / "containers").iterdir()) == []


async def test_a_stray_cgroup_is_destroyed(flags: Flags) -> None:
    """The launcher knows of a container, the state does not."""
    flags = replace(flags, isolation=LINUX)
    with running(flags) as (_, pid):
        pass
    shutil.rmtree(flags.runtime_dir / "containers/x")
    async with MesosContainerizer(flags) as containerizer:
        await containerizer.recover()
        await_end(pid, asyncio.get_running_loop().time())
        assert await containerizer.containers() == set()


async def test_nested_containers(launch: Launch, isolation: str) -> None:
    parent = await launch.sleeping(isolation=isolation)
    child = await launch.sleeping(parent=parent, isolation=isolation)
    containerizer = await launch.successor()
    assert await containerizer.containers() == {parent.container_id, child.container_id}
    other = ContainerID("other", parent.container_id)
    shared = LinuxInfo(share_pid_namespace=True)
    await containerizer.launch(other, ContainerConfig(CommandInfo("exit 6"), linux_info=shared))
    assert await end_of(containerizer, other) == 6
    child.say("end")
    assert await end_of(containerizer, child.container_id) == 0
    await containerizer.destroy(parent.container_id)
    assert await containerizer.containers() == set()


@pytest.mark.slow
async def test_ends_are_remembered_until_they_are_removed(launch: Launch, isolation: str) -> None:
    container = await launch("exit 5", isolation=isolation)
    await container.wait()
    containerizer = await launch.successor()
    assert await end_of(containerizer, container.container_id) == 5
    await containerizer.remove(container.container_id)
    containerizer = await launch.successor()
    assert await containerizer.destroy(container.container_id) is None


@pytest.mark.slow
async def test_a_recovery_comes_once_and_before_any_launch(launch: Launch) -> None:
    container = await launch.sleeping()
    with pytest.raises(ContainerError, match="call recover"):
        await launch.containerizer().recover(known=[])
    containerizer = await launch.successor()
    with pytest.raises(ContainerError, match="call recover"):
        await containerizer.recover(known=[])
    assert await containerizer.containers() == {container.container_id}
    container.say("end")
    assert await end_of(containerizer, container.container_id) == 0
    with pytest.raises(ContainerError, match="call recover"):
        await containerizer.recover()


@pytest.mark.slow
async def test_two_recoveries_at_the_same_time(launch: Launch) -> None:
    container = await launch.sleeping()
    containerizer = await launch.successor(recover=False)
    results = await asyncio.gather(*(containerizer.recover() for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ContainerError]
    container.say("end")
    assert await end_of(containerizer, container.container_id) == 0


@pytest.mark.slow
async def test_two_containerizers_on_one_directory(launch: Launch) -> None:
    launch.containerizer()
    with pytest.raises(FlagError, match="in use by another process"):
        MesosContainerizer(launch.flags).start()


@pytest.mark.slow
async def test_after_a_reboot_pids_mean_nothing(launch: Launch, flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that now has the recorded pid is somebody else."""
    launch.containerizer("filesystem/posix", launcher="posix")
    container = await launch("exit 0")
    await container.wait()
    with subprocess.Popen(["sleep", "60"]) as innocent:  # noqa: ASYNC220
        record = flags.runtime_dir / "containers/c1/pid"
        started = int(Path(f"/proc/{innocent.pid}/stat").read_text().rpartition(")")[2].split()[19])
        values = {"pid": innocent.pid, "started": started, "boot_id": "another", "has_pid_namespace": False}
        record.write_text(json.dumps({"version": 1, **values, "records_status": True}))
        containerizer = await launch.successor()
        assert await containerizer.containers() == set()
        assert innocent.poll() is None
        monkeypatch.setattr(mesos, "boot_id", lambda: "another")
        record.write_text(json.dumps({"version": 1, **values, "records_status": True}))
        containerizer = await launch.successor()
        await containerizer.destroy(container.container_id)
        assert innocent.wait(TIMEOUT) == -signal.SIGKILL, "the control: with the same boot it is the container's"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config", "pid", "status"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "damaged"),
        (b"\0" * 100, "damaged"),
        (b'{"version": 1, ', "damaged"),
        (b'{"version": 1}', "damaged"),
        (b"[]", "damaged"),
        (b'{"version": 2, "more": 1}', "format version 2"),
        (b'{"version": 99999999999999999999}', "format version"),
        (b'{"version": "1"}', "damaged"),
    ],
)
async def test_state_that_cannot_be_used_is_refused(launch: Launch, name: str, content: bytes, text: str) -> None:
    container = await launch.sleeping()
    pid = await container.pid()
    file = launch.flags.runtime_dir / "containers/c1" / name
    before = file.read_bytes() if file.exists() else None
    containerizer = await launch.successor(recover=False)
    file.write_bytes(content)
    with pytest.raises(RecoveryError, match=f"{file}.*{text}"):
        await containerizer.recover()
    os.kill(pid, 0)
    if before is None:
        file.unlink()
    else:
        file.write_bytes(before)
    await containerizer.recover()
    assert await containerizer.containers() == {container.container_id}, "nothing was changed by the refusal"


@pytest.mark.slow
async def test_things_that_are_no_containers(launch: Launch) -> None:
    containerizer = launch.containerizer()
    (launch.flags.runtime_dir / "containers" / "not a name").mkdir(parents=True)
    with pytest.raises(RecoveryError, match="not a name"):
        await containerizer.recover()
