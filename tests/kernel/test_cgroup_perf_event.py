"""`cgroups/perf_event`: software events, which every machine has, counted in one container and not in another."""

from __future__ import annotations

import asyncio
import time

import pytest

from mesocosm.container import LinuxInfo
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.perf_event import PerfEventIsolator
from mesocosm.linux import cgroup
from mesocosm.linux.perf import EVENTS, Counters
from mesocosm.statistics import PerfStatistics
from tests.kernel.cgroup_support import blocked, created
from tests.launching import LINUX, TIMEOUT, Launch, Started

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/perf_event"
OWN = LinuxInfo(share_cgroups=False)
SAMPLING = {"perf_events": "task-clock,page-faults,context-switches", "perf_interval": 0.2, "perf_duration": 0.2}
BUSY = "while :; do /bin/true; done"


@pytest.fixture(autouse=True)
def isolator(launch: Launch) -> None:
    created(PerfEventIsolator, launch.flags)


async def sampled(container: Started, after: float = 0.0) -> PerfStatistics:
    """What was counted in a sample that began after that time."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            perf = (await container.containerizer.usage(container.container_id)).perf
            if perf is not None and perf.timestamp > after:
                return perf
            await asyncio.sleep(0.05)  # A sample is no event that anybody could wait for.


async def test_samples(launch: Launch) -> None:
    launch.containerizer(ISOLATION, **SAMPLING)
    busy = await launch.talking(BUSY, isolation=ISOLATION)
    idle = await launch.sleeping(isolation=ISOLATION)
    first = await sampled(busy, time.time())  # Both have started by now, which takes page faults, too.
    second, quiet = await sampled(busy, first.timestamp), await sampled(idle, first.timestamp)
    assert second.timestamp > first.timestamp
    assert second.duration >= 0.2
    assert set(second.counts) == {"task_clock", "page_faults", "context_switches"}
    assert second.counts["page_faults"] > 0
    assert second.counts["task_clock"] > 0  # Milliseconds.
    assert quiet.counts["page_faults"] == 0


async def test_nested_containers_and_recovery(launch: Launch) -> None:
    launch.containerizer(ISOLATION, **SAMPLING)
    outer = await launch.sleeping(isolation=ISOLATION)
    inner = await launch.talking(BUSY, isolation=ISOLATION, parent=outer, linux_info=OWN)
    containerizer = await launch.successor()
    inner.containerizer = outer.containerizer = containerizer
    sample = await sampled(inner)
    assert sample.counts["page_faults"] > 0
    assert (await sampled(outer, sample.timestamp)).counts["page_faults"] > 0


@pytest.mark.slow
async def test_without_events_nothing_is_counted(launch: Launch) -> None:
    container = await launch.sleeping(isolation=ISOLATION)
    assert (await container.containerizer.usage(container.container_id)).perf is None


async def test_counters(flags: Flags, cgroups_root: str) -> None:
    """From the opening on, for what is in the cgroup or below it."""
    find = PerfEventIsolator.find(flags)[0].group(cgroups_root)
    cgroup.create(f"{find}/inner")
    counters = Counters(find, (EVENTS["page-faults"], EVENTS["cpu-clock"]))
    try:
        with blocked("while read -r more; do /bin/true; echo done; done") as process:
            cgroup.assign(f"{find}/inner", process.pid)
            process.release()
            process.write("more")
            assert process.read() == "done"
        assert all(count > 0 for count in counters.read().values())
    finally:
        counters.close()
        await cgroup.destroy(find)
