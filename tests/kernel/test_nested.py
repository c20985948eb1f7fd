"""Nested containers: what they share with their parent and what is their own, at every depth."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesocosm.container import (
    CommandInfo,
    ContainerClass,
    ContainerConfig,
    ContainerID,
    IpcMode,
    LinuxInfo,
    Tmpfs,
    Volume,
)
from mesocosm.containerizer.base import LaunchResult
from mesocosm.errors import ContainerError, MesocosmError
from tests.launching import LINUX, TIMEOUT, Launch, Started

pytestmark = pytest.mark.kernel
LINKS = "for name in mnt pid ipc net uts cgroup user; do readlink /proc/self/ns/$name; done"


async def namespaces(container: Started) -> dict[str, str]:
    """The namespaces of the command of a container that runs LINKS."""
    assert await container.wait() == 0, container.stream("stderr")
    return dict(line.split(":") for line in container.stream().splitlines())


def namespaces_of(pid: int) -> dict[str, str]:
    names = ("mnt", "pid", "ipc", "net", "uts", "cgroup", "user")
    return dict(str(Path(f"/proc/{pid}/ns/{name}").readlink()).split(":") for name in names)


def shared(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one if one[name] == other[name]}


@pytest.fixture(params=[False, True], ids=["host", "rootfs"])
def root(request: pytest.FixtureRequest, rootfs: Path) -> Path | None:
    return rootfs if request.param else None


@pytest.mark.parametrize(
    ("linux_info", "expected"),
    [
        (LinuxInfo(), {"ipc", "net", "uts", "cgroup", "user"}),
        (LinuxInfo(share_pid_namespace=True), {"pid", "ipc", "net", "uts", "cgroup", "user"}),
        (LinuxInfo(ipc_mode=IpcMode.PRIVATE), {"net", "uts", "cgroup", "user"}),
        (LinuxInfo(ipc_mode=IpcMode.SHARE_PARENT), {"ipc", "net", "uts", "cgroup", "user"}),
    ],
)
async def test_what_is_shared_with_the_parent(
    launch: Launch, root: Path | None, linux_info: LinuxInfo, expected: set[str]
) -> None:
    parent = await launch.sleeping(rootfs=root, linux_info=LinuxInfo(ipc_mode=IpcMode.PRIVATE))
    child = await launch(LINKS, parent=parent, rootfs=root, linux_info=linux_info)
    assert shared(await namespaces(child), namespaces_of(await parent.pid())) == expected


async def test_a_debug_container_enters_all_of_the_parents(launch: Launch, root: Path | None) -> None:
    parent = await launch.sleeping(rootfs=root, linux_info=LinuxInfo(ipc_mode=IpcMode.PRIVATE))
    child = await launch(LINKS, parent=parent, container_class=ContainerClass.DEBUG)
    assert await namespaces(child) == namespaces_of(await parent.pid())


async def test_a_debug_container_sees_what_the_parent_sees(launch: Launch, rootfs: Path) -> None:
    """Also after a restart of the agent."""
    command = "echo $$; touch /tmpfs/mine; echo up; read -r end"
    options = {"rootfs": rootfs, "tmpfs": (Tmpfs("/tmpfs"),), "environment": {"A": "parent", "B": "parent"}}
    parent = await launch.talking(command, working_directory="/etc", **options)
    pid = await parent.line()
    assert await parent.line() == "up"
    for _ in range(2):
        child = await launch(
            f"pwd; ls /tmpfs; tr '\\0' ' ' < /proc/{pid}/cmdline; echo; echo $A $B $MESOS_SANDBOX",
            parent=parent,
            container_class=ContainerClass.DEBUG,
            environment={"B": "child"},
        )
        assert await child.wait() == 0, child.stream("stderr")
        assert child.stream().splitlines() == ["/etc", "mine", f"sh -c {command} ", "parent child /mnt/mesos/sandbox"]
        parent.containerizer = await launch.successor()


@pytest.mark.parametrize(
    "asked",
    [
        {"rootfs": Path("/usr")},
        {"volumes": (Volume("/tmp", "/usr"),)},
        {"tmpfs": (Tmpfs("x"),)},
        {"linux_info": LinuxInfo(ipc_mode=IpcMode.PRIVATE)},
    ],
)
async def test_a_debug_container_can_have_nothing_of_its_own(launch: Launch, asked: dict[str, object]) -> None:
    parent = await launch.sleeping()
    with pytest.raises(ContainerError, match="debug"):
        await launch("true", parent=parent, container_class=ContainerClass.DEBUG, **asked)


async def test_a_top_level_debug_container_is_refused(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="debug"):
        await launch("true", container_class=ContainerClass.DEBUG)


async def test_the_mounts_of_a_nested_container_are_its_own(launch: Launch, rootfs: Path) -> None:
    parent = await launch.talking("read -r go; cat /proc/mounts | grep -c ' /mnt/x ' ; read -r end", rootfs=rootfs)
    child = await launch.talking("mount -t tmpfs none /mnt; echo done; read -r end", parent=parent, rootfs=rootfs)
    assert await child.line() == "done"
    parent.say("go")
    assert await parent.line() == "0"


async def test_a_parent_sees_the_processes_of_its_child_but_not_the_other_way(launch: Launch, rootfs: Path) -> None:
    parent = await launch.talking("read -r go; ps -o args; echo end; read -r end", rootfs=rootfs)
    child = await launch.talking("echo up; read -r go; ps -o args; echo end; read -r it", parent=parent, rootfs=rootfs)
    await child.line()
    parent.say("go")
    assert any("read -r it" in line for line in await until_end(parent))
    child.say("go")
    assert not any("read -r end" in line for line in await until_end(child))


async def until_end(container: Started) -> list[str]:
    lines = []
    while (line := await container.line()) != "end":
        lines.append(line)
    return lines


@pytest.mark.parametrize("isolation", ["filesystem/posix", "filesystem/linux", LINUX])
async def test_the_end_of_the_parent_ends_its_children_first(launch: Launch, isolation: str) -> None:
    parent = await launch.sleeping(isolation=isolation, name="a")
    child = await launch.sleeping(parent=parent, isolation=isolation, name="b")
    grandchild = await launch.sleeping(parent=child, isolation=isolation, name="c")
    order: list[str] = []

    async def watch(container: Started) -> None:
        await container.termination()
        order.append(container.container_id.value)

    watchers = [asyncio.create_task(watch(container)) for container in (parent, child, grandchild)]
    assert not grandchild.container_id.is_within(ContainerID("x"))
    parent.say("end")
    await asyncio.wait_for(asyncio.gather(*watchers), TIMEOUT)
    assert order == ["c", "b", "a"]
    assert [await container.wait() for container in (parent, child, grandchild)] == [0, 137, 137]


async def test_destroying_a_child_leaves_the_parent(launch: Launch) -> None:
    parent = await launch.sleeping()
    child = await launch.sleeping(parent=parent)
    await child.destroy()
    parent.say("end")
    assert await parent.wait() == 0


async def test_no_container_in_one_that_is_gone(launch: Launch) -> None:
    parent = await launch("true")
    await parent.wait()
    with pytest.raises(ContainerError, match="c1"):
        await launch("true", parent=parent)
    with pytest.raises(ContainerError, match="never"):
        await launch.containerizer().launch(
            ContainerID("x", ContainerID("never")), ContainerConfig(CommandInfo("true"))
        )


async def test_launching_while_the_parent_is_destroyed(launch: Launch) -> None:
    parent = await launch.sleeping()
    container_id = ContainerID("kid", parent.container_id)
    containerizer = launch.containerizer()
    for turns in range(10):
        child = asyncio.create_task(containerizer.launch(container_id, ContainerConfig(CommandInfo("sleep 60"))))
        for _ in range(turns):
            await asyncio.sleep(0)
        destroyed = asyncio.create_task(parent.destroy())
        results = await asyncio.wait_for(asyncio.gather(child, destroyed, return_exceptions=True), TIMEOUT)
        assert results[1] is not None
        assert not isinstance(results[0], BaseException) or isinstance(results[0], MesocosmError | OSError)
        assert await containerizer.containers() == set()
        await containerizer.remove(parent.container_id)
        parent = await launch.sleeping(name="c1")


async def test_a_child_of_the_same_name_can_be_launched_again_after_it_was_removed(launch: Launch) -> None:
    parent = await launch.sleeping()
    for _ in range(2):
        child = await launch("true", parent=parent, name="kid")
        assert await child.wait() == 0
        await launch.containerizer().remove(child.container_id)
        assert not child.sandbox.exists()


async def test_as_deep_as_the_kernel_allows(launch: Launch) -> None:
    """pid_namespaces(7): 32 levels, of which the host is in at least one."""
    depth = (
        len(next(line for line in Path("/proc/self/status").read_text().splitlines() if "NSpid" in line).split()) - 1
    )
    chain: list[Started] = []
    with pytest.raises((MesocosmError, OSError), match="no deeper pid namespace"):  # noqa: PT012 - at some depth.
        while len(chain) < 40:
            chain.append(await launch.sleeping(parent=chain[-1] if chain else None, name="d"))
    assert len(chain) == 33 - depth
    child = await launch("echo deep", parent=chain[-1], linux_info=LinuxInfo(share_pid_namespace=True))
    assert await child.wait() == 0
    await chain[0].destroy()


async def test_environment_of_a_nested_container(launch: Launch) -> None:
    parent = await launch.sleeping(environment={"A": "parent"})
    child = await launch("env", parent=parent, name="kid")
    assert await child.wait() == 0
    found = dict(line.split("=", 1) for line in child.stream().splitlines())
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "MESOS_SANDBOX": str(child.sandbox),
        "PWD": str(child.sandbox),
    }


async def test_a_parent_whose_command_is_faster_than_the_word_of_it(launch: Launch) -> None:
    """A command may ask for what is nested in it as soon as it runs, and its containerizer hears of that later."""
    containerizer = launch.containerizer()
    parent, child = ContainerID("parent"), ContainerID("child", ContainerID("parent"))
    launching = asyncio.create_task(containerizer.launch(parent, ContainerConfig(CommandInfo("sleep 1000"))))
    known = containerizer._lives
    while (begun := known.get(parent)) is None or not begun.released:  # noqa: ASYNC110 - nobody is told of that.
        await asyncio.sleep(0)
    assert containerizer.pending() == {parent: "FETCHING"}
    assert await containerizer.launch(child, ContainerConfig(CommandInfo("exit 3"))) is LaunchResult.SUCCESS
    assert launching.done()
    assert (await asyncio.wait_for(containerizer.wait(child), TIMEOUT)).exit_status == 3
    await containerizer.destroy(parent)
