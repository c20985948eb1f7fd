"""How nested containers end, and what a recovery makes of those of which something is missing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, ContainerID
from mesocosm.errors import UnknownContainerError
from tests.launching import LINUX, TIMEOUT, Launch, Started
from tests.machine import await_end

pytestmark = pytest.mark.kernel


async def family(launch: Launch, *nested: str) -> list[Started]:
    """A container with others nested in it, by these names."""
    parent = await launch.sleeping(name="parent", isolation=LINUX)
    return [parent, *[await launch.sleeping(parent=parent, name=name) for name in nested]]


def record(launch: Launch, container: Started) -> Path:
    """The directory of what is on record of it."""
    return launch.flags.runtime_dir / "containers" / container.container_id.join("containers")


async def pids(*containers: Started) -> list[int]:
    return [await container.pid() for container in containers]


@pytest.mark.parametrize("how", ["destroy", "SIGTERM"])
async def test_nested_ones_end_when_the_parent_is_ended(launch: Launch, how: str) -> None:
    parent, child = await family(launch, "child")
    inits = await pids(parent, child)
    waiting = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    if how == "destroy":
        await parent.destroy()
        assert await parent.wait() == 128 + signal.SIGKILL
    else:
        assert await launch.containerizer().kill(parent.container_id, signal.SIGTERM)
        assert await parent.wait() == 128 + signal.SIGTERM
    assert await waiting == 128 + signal.SIGKILL
    for init in inits:
        await_end(init, asyncio.get_running_loop().time() + TIMEOUT)


async def test_a_destroyed_child_is_told_from_the_parent(launch: Launch) -> None:
    parent, child = await family(launch, "child")
    await child.destroy()
    assert await child.wait() == 128 + signal.SIGKILL
    assert await launch.containerizer().containers() == {parent.container_id}
    await parent.destroy()
    assert await parent.wait() == 128 + signal.SIGKILL


async def test_the_end_of_a_child_can_be_asked_for_again(launch: Launch) -> None:
    parent, *_ = await family(launch)
    child = await launch("exit 42", parent=parent, name="child")
    for _ in range(2):
        assert await child.wait() == 42
    destroyed = await launch.containerizer().destroy(child.container_id)
    assert destroyed is not None
    assert destroyed.exit_status == 42
    await parent.destroy()
    assert await child.wait() == 42, "until somebody removes it"


async def test_removing_a_child_that_has_ended(launch: Launch) -> None:
    parent, *_ = await family(launch)
    child = await launch("true", parent=parent, name="child")
    assert await child.wait() == 0
    assert [record(launch, child).exists(), child.sandbox.exists()] == [True, True]
    await launch.containerizer().remove(child.container_id)
    assert [record(launch, child).exists(), child.sandbox.exists()] == [False, False]
    assert parent.sandbox.exists()
    with pytest.raises(UnknownContainerError):
        await launch.containerizer().wait(child.container_id)


async def test_a_debug_container_is_not_where_a_process_has_gone_to(launch: Launch) -> None:
    """What a process of the parent mounts in a mount namespace of its own is not the parent's."""
    script = "unshare -m sh -c 'mkdir there; mount -t tmpfs none there; touch there/check; echo up; read -r end'"
    parent = await launch.talking(script, isolation="filesystem/linux")
    assert await parent.line() == "up"
    child = await launch("test -d there; ls there", parent=parent, container_class=ContainerClass.DEBUG)
    assert (await child.wait(), child.stream()) == (0, "")


# What is missing.


async def test_nested_orphans_are_destroyed(launch: Launch) -> None:
    parent, child, grandchild = await family(launch, "child", "other")
    inits = await pids(parent, child, grandchild)
    containerizer = await launch.successor(recover=False)
    await containerizer.recover(known=[])
    assert await containerizer.containers() == set()
    for init in inits:
        await_end(init, asyncio.get_running_loop().time())


async def test_a_nested_one_is_recovered_without_the_record_of_what_its_parent_asked_for(launch: Launch) -> None:
    parent, child = await family(launch, "child")
    inits = await pids(parent, child)
    await launch.successor(recover=False)
    (record(launch, parent) / "config").unlink()
    await launch.containerizer().recover()
    found = [(await launch.containerizer().status(each.container_id)).executor_pid for each in (parent, child)]
    assert found == inits


@pytest.mark.parametrize("nested", [["one"], ["one", "two"]], ids=len)
@pytest.mark.parametrize("with_parent", [True, False])
async def test_the_launcher_knows_of_nested_ones_that_nothing_else_tells_of(
    launch: Launch, nested: list[str], with_parent: bool
) -> None:
    parent, *children = await family(launch, *nested)
    known = await pids(*children)
    parent_pid = await parent.pid()
    await launch.successor(recover=False)
    shutil.rmtree(record(launch, parent) / "containers" if with_parent else record(launch, parent))
    await launch.containerizer().recover()
    assert await launch.containerizer().containers() == ({parent.container_id} if with_parent else set())
    for init in known:
        await_end(init, asyncio.get_running_loop().time())
    if with_parent:
        os.kill(parent_pid, 0)
    else:
        await_end(parent_pid, asyncio.get_running_loop().time())


async def test_others_stay_when_a_nested_one_is_unknown(launch: Launch) -> None:
    parent, child, stray = await family(launch, "child", "stray")
    (init,) = await pids(stray)
    await launch.successor(recover=False)
    shutil.rmtree(record(launch, stray))
    await launch.containerizer().recover()
    assert await launch.containerizer().containers() == {parent.container_id, child.container_id}
    await_end(init, asyncio.get_running_loop().time())


def test_ids_of_nested_containers() -> None:
    parent = ContainerID("parent")
    child = ContainerID("child", parent)
    assert child == ContainerID("child", ContainerID("parent"))
    assert len({parent, child, ContainerID("child"), ContainerID("child", ContainerID("other"))}) == 4
    assert (str(parent), str(child)) == ("parent", "parent.child")
