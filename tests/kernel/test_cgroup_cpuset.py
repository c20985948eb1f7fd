"""`cgroups/cpuset`: what a container sees of the CPUs that its cgroup was given."""

from __future__ import annotations

import os

import pytest

from mesocosm.container import LinuxInfo
from mesocosm.isolators.cgroups.cpuset import CpusetIsolator
from mesocosm.linux import cgroup
from tests.kernel.cgroup_support import created, group_of
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/cpuset"
AFFINITY = "while read -r go; do grep Cpus_allowed_list /proc/self/status | cut -f2; done"
OWN = LinuxInfo(share_cgroups=False)


@pytest.fixture(autouse=True)
def processors(launch: Launch) -> list[int]:
    created(CpusetIsolator, launch.flags)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("takes two CPUs")
    return cpus


async def test_affinity(launch: Launch, processors: list[int]) -> None:
    bound = await launch.talking(AFFINITY, isolation=ISOLATION)
    free = await launch.talking(AFFINITY, isolation=ISOLATION)
    cgroup.write(group_of(launch.flags, "cpuset", bound.container_id), "cpuset.cpus", processors[1])
    for container in (bound, free):
        container.say("go")
    assert await bound.line() == str(processors[1])
    assert str(processors[0]) in await free.line()


async def test_containers_inherit(launch: Launch, processors: list[int]) -> None:
    """What the operator has written to the cgroup of all containers, also for those launched later and nested ones."""
    outer = await launch.sleeping(isolation=ISOLATION)
    await outer.destroy()
    root = group_of(launch.flags, "cpuset", outer.container_id).rpartition("/")[0]
    cgroup.write(root, "cpuset.cpus", processors[0])
    outer = await launch.talking(AFFINITY, isolation=ISOLATION)
    nested = await launch.talking(AFFINITY, isolation=ISOLATION, parent=outer, linux_info=OWN)
    for container in (outer, nested):
        container.say("go")
        assert await container.line() == str(processors[0])


async def test_recovery(launch: Launch, processors: list[int]) -> None:
    outer = await launch.sleeping(isolation=ISOLATION)
    group = group_of(launch.flags, "cpuset", outer.container_id)
    cgroup.write(group, "cpuset.cpus", processors[1])
    await launch.successor()
    nested = await launch.talking(AFFINITY, isolation=ISOLATION, parent=outer)
    nested.say("go")
    assert await nested.line() == str(processors[1])
    await launch.containerizer().destroy(outer.container_id)
    assert not cgroup.exists(group)
