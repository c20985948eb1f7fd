"""An agent that comes back with other isolators: what it knows of containers of before, and what is left of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesocosm.container import ResourceStatistics
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.isolators.cgroups.mem import MemIsolator
from mesocosm.isolators.cgroups.perf_event import PerfEventIsolator
from mesocosm.linux import cgroup
from tests.kernel.cgroup_support import created, group_of
from tests.launching import TIMEOUT, Launch, Started

pytestmark = pytest.mark.kernel
CPU = "cgroups/cpu"
BOTH = f"{CPU},cgroups/mem"


async def used(container: Started) -> ResourceStatistics:
    return await container.containerizer.usage(container.container_id)


async def test_one_more(launch: Launch) -> None:
    """It knows nothing of containers of before, also if one is launched in them, and of all later ones."""
    created(MemIsolator, launch.flags)
    before = await launch.sleeping(isolation=CPU)
    assert (await used(before)).mem_total_bytes is None
    before.containerizer = await launch.successor(isolation=BOTH)
    found = await used(before)
    assert found.mem_total_bytes is found.mem_kmem_usage_bytes is None
    assert found.cpus_user_time_secs is not None
    nested = await launch("true", parent=before)
    assert await nested.wait() == 0
    assert (await used(await launch.sleeping(isolation=BOTH))).mem_total_bytes
    await before.destroy()


async def test_one_less(launch: Launch) -> None:
    """Nobody asks it any more, and nothing of it is left when the container ends."""
    created(MemIsolator, launch.flags)
    before = await launch.sleeping(isolation=BOTH)
    group = group_of(launch.flags, "memory", before.container_id)
    assert (await used(before)).mem_total_bytes
    before.containerizer = await launch.successor(isolation=CPU)
    assert (await used(before)).mem_total_bytes is None
    assert (await used(await launch.sleeping(isolation=CPU))).mem_total_bytes is None
    assert cgroup.exists(group), "the control"
    await before.destroy()
    assert not cgroup.exists(group)


async def test_one_more_that_samples(launch: Launch) -> None:
    created(PerfEventIsolator, launch.flags)
    before = await launch.sleeping(isolation=CPU)
    isolation = f"{CPU},cgroups/perf_event"
    before.containerizer = await launch.successor(
        isolation=isolation, perf_events="task-clock", perf_interval=0.1, perf_duration=0.1
    )
    later = await launch.sleeping(isolation=isolation)
    async with asyncio.timeout(TIMEOUT):
        while (await used(later)).perf is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # A sample is no event that anybody could wait for.
    assert (await used(before)).perf is None


async def test_the_cgroup_of_all_is_made_when_it_is_missing(launch: Launch) -> None:
    containerizer = launch.containerizer(CPU)
    container = await launch.sleeping(isolation=CPU)
    group = Path(group_of(launch.flags, "cpu", container.container_id))
    await container.destroy()
    assert not group.exists()
    cgroup.remove(str(group.parent))
    assert containerizer is launch.containerizer(CPU)
    container = await launch.sleeping(isolation=CPU)
    group = group.with_name(container.container_id.value)
    assert await container.pid() in cgroup.processes(str(group), recursive=True)
    await container.destroy()
    assert not group.exists()


async def test_all_make_their_cgroups(launch: Launch) -> None:
    """Each controller that this host has, and that an isolator is for."""
    containerizer = launch.containerizer("cgroups/all")
    controllers = {
        controller
        for isolator in containerizer._isolation
        if isinstance(isolator, CgroupIsolator)
        for controller in (isolator.unified_controllers if isolator.unified else isolator.controllers) or ()
    }
    mounted = {each for hierarchy in cgroup.hierarchies().mounted for each in hierarchy.controllers}
    assert controllers == mounted - {"freezer", "rdma", "misc"}
    container = await launch.sleeping(isolation="cgroups/all")
    groups = {group_of(launch.flags, controller, container.container_id) for controller in controllers}
    pid = await container.pid()
    assert [group for group in groups if pid not in cgroup.processes(group, recursive=True)] == []
    await container.destroy()
    assert [group for group in groups if cgroup.exists(group)] == []


@pytest.mark.parametrize("before", ["filesystem/linux", "filesystem/linux,namespaces/pid"])
async def test_a_container_ends_with_or_without_its_pid_namespace(launch: Launch, before: str) -> None:
    """It was launched with the other, and nothing that it has started is left."""
    (after,) = {"filesystem/linux", "filesystem/linux,namespaces/pid"} - {before}
    script = "trap '' TERM; setsid sleep 1000 & setsid sleep 1000 & echo up; wait"
    container = await launch.talking(script, isolation=before)
    assert await container.line() == "up"
    container.containerizer = await launch.successor(isolation=after)
    assert container.container_id in await container.containerizer.containers()
    await container.destroy()
