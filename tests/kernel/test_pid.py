"""`namespaces/pid`, sentence by sentence."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.linux import cgroup
from tests.launching import Launch

pytestmark = pytest.mark.kernel
WITH, WITHOUT = "filesystem/linux,namespaces/pid", "filesystem/linux"
NAMESPACE = "readlink /proc/self/ns/pid"
SHARE = LinuxInfo(share_pid_namespace=True)


def own(pid: int | str = "self") -> str:
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


@pytest.fixture(params=[False, True], ids=["host", "rootfs"])
def root(request: pytest.FixtureRequest, rootfs: Path) -> Path | None:
    return rootfs if request.param else None


async def test_each_container_has_its_own_by_default(launch: Launch, root: Path | None) -> None:
    found = {await launch.output(NAMESPACE, isolation=WITH, rootfs=root) for _ in range(2)}
    asked = await launch.output(NAMESPACE, isolation=WITH, rootfs=root, linux_info=LinuxInfo(share_pid_namespace=False))
    assert own() not in found | {asked}
    sleeping = await launch.sleeping(isolation=WITH, rootfs=root)
    assert own(await sleeping.pid()) not in await launch.output(NAMESPACE, isolation=WITH, rootfs=root)


async def test_control_without_the_isolator(launch: Launch, root: Path | None) -> None:
    assert await launch.output(NAMESPACE, isolation=WITHOUT, rootfs=root) == own()


async def test_visibility(launch: Launch, root: Path | None) -> None:
    """The init, the command and ps; the host sees them all the same."""
    pids = await launch.output("exec ps -A -o pid", isolation=WITH, rootfs=root)
    assert [int(pid) for pid in pids.split()[1:]] == [1, 2]
    sleeping = await launch.sleeping(isolation=WITH, rootfs=root)
    (command,) = Path(f"/proc/{await sleeping.pid()}/task/{await sleeping.pid()}/children").read_text().split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{command}/status").read_text().splitlines())
    assert status["NSpid"].split()[-2:] == [command, "2"]


async def test_processes_outside_cannot_be_signalled(launch: Launch, root: Path | None) -> None:
    other = await launch.sleeping(isolation=WITH, rootfs=root)
    pid = await other.pid()
    assert await launch.output(f"kill -9 {pid} || echo refused", isolation=WITH, rootfs=root) == "refused"
    other.say("end")
    assert await other.wait() == 0


async def test_control_processes_outside_can_be_signalled(launch: Launch) -> None:
    other = await launch.sleeping(isolation=WITHOUT)
    await launch.output(f"kill -9 {await other.pid()}", isolation=WITHOUT)
    assert await other.wait() == 137


@pytest.mark.parametrize("isolation", [WITH, WITHOUT])
async def test_the_end_of_the_leading_process_ends_all(launch: Launch, isolation: str) -> None:
    script = "setsid sh -c 'trap \"\" TERM HUP INT; echo up; while :; do sleep 1; done' & read -r end; kill -9 $$"
    container = await launch.talking(script, isolation=isolation)
    assert await container.line() == "up"
    os.kill(await container.pid(), signal.SIGKILL)
    assert await container.wait() == 137
    assert await container.line() == ""


async def test_a_top_level_container_can_share_the_agents(launch: Launch, root: Path | None) -> None:
    assert await launch.output(NAMESPACE, isolation=WITH, rootfs=root, linux_info=SHARE) == own()
    pid = os.getpid()
    assert await launch.output(f"ls -d /proc/{pid}", isolation=WITH, rootfs=root, linux_info=SHARE) == f"/proc/{pid}"


async def test_a_nested_container_can_share_its_parents(launch: Launch, root: Path | None) -> None:
    parent = await launch.sleeping(isolation=WITH, rootfs=root)
    child = await launch(f"{NAMESPACE}; exec ps -A -o args", parent=parent, rootfs=root, linux_info=SHARE)
    assert await child.wait() == 0, child.stream("stderr")
    namespace, *processes = child.stream().splitlines()
    assert namespace == own(await parent.pid())
    assert any("read -r end" in line for line in processes), "the parent's command is seen, by the parent's /proc"
    other = await launch(NAMESPACE, parent=parent, rootfs=root)
    assert await other.wait() == 0
    assert other.stream().strip() not in (own(), namespace)


async def test_sharing_with_the_agent_can_be_disallowed(launch: Launch, flags: Flags) -> None:
    launch.containerizer(WITH, disallow_sharing_agent_pid_namespace=True)
    with pytest.raises(ContainerError, match="disallow_sharing_agent_pid_namespace"):
        await launch("true", linux_info=SHARE)
    parent = await launch.sleeping()
    child = await launch(NAMESPACE, parent=parent, linux_info=SHARE)
    assert await child.wait() == 0, "a nested container shares its parent's, not the agent's"
    assert child.stream().strip() == own(await parent.pid())


@pytest.mark.parametrize("isolation", ["namespaces/pid", "namespaces/pid,filesystem/posix"])
async def test_it_needs_filesystem_linux(flags: Flags, isolation: str) -> None:
    with pytest.raises(FlagError, match=r"'namespaces/pid' needs 'filesystem/linux'"):
        MesosContainerizer(replace(flags, isolation=isolation)).start()
    assert not flags.runtime_dir.exists(), "it refuses before anything is made"


async def test_the_kernel_is_asked_to_end_the_namespace_and_not_the_freezer(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cgroup.hierarchies().freezer is None:
        pytest.skip("there is no freezer of cgroup v1 here")
    frozen: list[str] = []

    async def record(group: str) -> None:
        frozen.append(group)
        await kill(group)

    kill = cgroup.kill
    monkeypatch.setattr(cgroup, "kill", record)
    container = await launch.talking("(while :; do sleep 1; done) & echo up; wait", isolation=WITH)
    await container.line()
    await container.destroy()
    assert frozen == []


async def test_proc_is_of_the_namespace(launch: Launch, root: Path | None) -> None:
    output = await launch.output(
        "readlink /proc/self; cat /proc/1/comm; cat /proc/loadavg", isolation=WITH, rootfs=root
    )
    assert int(output.splitlines()[0]) < 20
