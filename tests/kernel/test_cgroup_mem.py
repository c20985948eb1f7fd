"""`cgroups/mem` against processes that take memory: the limit, how its excess is told, and the amounts reported."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import ContainerID, LinuxInfo, Resources
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.cgroups.mem import MemIsolator
from mesocosm.linux import cgroup
from mesocosm.statistics import Limitation
from tests.isolating import isolate
from tests.kernel.cgroup_support import CONTAINER, MB, blocked, config, created

pytestmark = pytest.mark.kernel
NESTED = ContainerID("n", CONTAINER)
OWN = LinuxInfo(share_cgroups=False)
HOG = "exec dd if=/dev/zero of=/dev/null bs=100M count=1"
HOLD = "x=$(head -c 20M /dev/zero | tr '\\0' x); echo held; read -r end"
LIMIT = Resources(mem=32 * MB)
ENOUGH = Resources(mem=256 * MB)


@pytest.fixture
async def isolator(flags: Flags) -> AsyncIterator[MemIsolator]:
    isolator = created(MemIsolator, flags)
    yield isolator
    await isolator.cleanup(NESTED)
    await isolator.cleanup(CONTAINER)
    await isolator.close()


async def run_hog(isolator: MemIsolator, container: ContainerID = CONTAINER) -> int:
    """The status of a process in the container that takes 100 MB; the event loop sees nothing of its end."""
    with blocked(HOG) as process:
        await isolate(isolator, container, process.pid)
        return process.release().wait()


def assert_told(limitation: Limitation | None, amount: str = "32MB") -> None:
    assert limitation
    assert limitation.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert limitation.resource == "mem"
    first, *rest = limitation.message.splitlines()
    assert first.startswith(f"Memory limit exceeded: Requested: {amount} Maximum Used: ")
    assert rest[:2] == ["", "MEMORY STATISTICS: "]
    assert cgroup.parse_keyed("\n".join(rest[2:]))


@pytest.mark.parametrize(
    ("resources", "limits"),
    [(LIMIT, Resources()), (ENOUGH, LIMIT), (Resources(), LIMIT), (Resources(mem=16 * MB), LIMIT)],
)
async def test_a_hog_is_ended_and_told(isolator: MemIsolator, resources: Resources, limits: Resources) -> None:
    await isolator.prepare(CONTAINER, config(resources=resources, limits=limits))
    watch = isolator.watch(CONTAINER)
    assert watch
    assert not watch.done()
    assert await run_hog(isolator) == -9
    assert_told(await asyncio.wait_for(watch, 10))
    assert await isolator.limitation(CONTAINER) == watch.result()


@pytest.mark.parametrize(
    ("resources", "limits"),
    [
        (Resources(), Resources()),
        (ENOUGH, Resources()),
        (LIMIT, ENOUGH),
        (LIMIT, Resources(mem=math.inf)),  # type: ignore[arg-type]
    ],
)
async def test_a_hog_with_enough_ends_well(isolator: MemIsolator, resources: Resources, limits: Resources) -> None:
    await isolator.prepare(CONTAINER, config(resources=resources, limits=limits))
    assert await run_hog(isolator) == 0
    assert await isolator.limitation(CONTAINER) is None
    watch = isolator.watch(CONTAINER)
    assert watch
    assert not watch.done()
    assert ((await isolator.usage(CONTAINER)).mem_maximum_bytes or 0) > 100 * MB


async def test_the_end_is_seen_before_the_event(isolator: MemIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    assert await run_hog(isolator) == -9
    assert_told(await isolator.limitation(CONTAINER))


async def test_a_killed_process_is_no_excess(isolator: MemIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    with blocked("kill -9 $$") as process:
        await isolate(isolator, CONTAINER, process.pid)
        assert process.release().wait() == -9
    assert await isolator.limitation(CONTAINER) is None


async def read_more_than_fits(isolator: MemIsolator, directory: Path) -> None:
    """Has a process in the container read a file of 100 MB."""
    file = directory / "file"
    with file.open("wb", buffering=0) as written:
        for _ in range(100):
            written.write(bytes(MB))
        os.fsync(written)
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # Whoever reads it is charged for it.
    with blocked(f"exec dd if={file} of=/dev/null bs=1M") as process:
        await isolate(isolator, CONTAINER, process.pid)
        assert process.release().wait() == 0
    file.unlink()


async def test_page_cache_at_the_limit_is_no_excess(isolator: MemIsolator, tmp_path: Path) -> None:
    """The limit is reached again and again, and memory is had by dropping cache: pressure, but nothing ends."""
    if isolator.unified:
        pytest.skip("in the virtual machine, which has cgroup v2, files are in memory and cannot be dropped")
    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    isolator.watch(CONTAINER)
    assert (await isolator.usage(CONTAINER)).mem_low_pressure_counter == 0
    await read_more_than_fits(isolator, tmp_path)
    assert await isolator.limitation(CONTAINER) is None
    usage = await isolator.usage(CONTAINER)
    assert (usage.mem_maximum_bytes or 0) <= 32 * MB
    low, medium = usage.mem_low_pressure_counter or 0, usage.mem_medium_pressure_counter or 0
    assert low > 0
    assert low >= medium >= (usage.mem_critical_pressure_counter or 0)


async def test_whose_limit_it_was(isolator: MemIsolator) -> None:
    """A limit that a nested container ran into is not its parent's, nor the other way round."""
    await isolator.prepare(CONTAINER, config(resources=ENOUGH))
    await isolator.prepare(NESTED, config(resources=LIMIT, linux_info=OWN))
    assert await run_hog(isolator, NESTED) == -9
    assert_told(await isolator.limitation(NESTED))
    assert await isolator.limitation(CONTAINER) is None
    await isolator.cleanup(NESTED)
    await isolator.cleanup(CONTAINER)

    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    await isolator.prepare(NESTED, config(resources=ENOUGH, linux_info=OWN))
    assert await run_hog(isolator, NESTED) == -9
    assert await isolator.limitation(NESTED) is None
    assert_told(await isolator.limitation(CONTAINER))


async def test_a_nested_container_that_shares(isolator: MemIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    await isolator.prepare(NESTED, config())
    assert isolator.watch(NESTED) is None
    assert await run_hog(isolator, NESTED) == -9
    assert await isolator.limitation(NESTED) is None
    assert_told(await isolator.limitation(CONTAINER))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("limit", [LIMIT.mem, 64 * MB])
async def test_oom_score(isolator: MemIsolator, nested: bool, limit: int) -> None:
    """A nested container that may use more than its request is killed early when the machine is out of memory."""
    container = NESTED if nested else CONTAINER
    if nested:
        await isolator.prepare(CONTAINER, config())
    await isolator.prepare(container, config(resources=LIMIT, limits=Resources(mem=limit), linux_info=OWN))
    with blocked("read -r end") as process:
        await isolate(isolator, container, process.pid)
        score = cgroup.read_int(f"/proc/{process.pid}", "oom_score_adj")
    inherited = cgroup.read_int("/proc/self", "oom_score_adj")
    assert score is not None
    assert score > 900 if nested and limit > (LIMIT.mem or 0) else score == inherited


async def test_limits_are_only_raised(isolator: MemIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=LIMIT))

    async def update(resources: Resources, limits: Resources) -> tuple[int | None, int | None]:
        await isolator.update(CONTAINER, resources, limits)
        usage = await isolator.usage(CONTAINER)
        return usage.mem_soft_limit_bytes, usage.mem_limit_bytes

    assert await update(Resources(), Resources()) == (32 * MB, 32 * MB)
    assert await update(Resources(mem=16 * MB), Resources()) == (16 * MB, 32 * MB)
    assert await update(Resources(mem=64 * MB), Resources()) == (64 * MB, 64 * MB)
    assert await update(Resources(), Resources(mem=128 * MB)) == (64 * MB, 128 * MB)
    assert await update(Resources(), Resources(mem=math.inf)) == (64 * MB, None)  # type: ignore[arg-type]
    assert await update(Resources(mem=32 * MB), Resources()) == (32 * MB, None)
    assert await run_hog(isolator) == 0


async def test_the_first_limit_may_be_lower(isolator: MemIsolator) -> None:
    await isolator.prepare(CONTAINER, config())
    assert (await isolator.usage(CONTAINER)).mem_limit_bytes is None
    await isolator.update(CONTAINER, LIMIT, Resources())
    assert (await isolator.usage(CONTAINER)).mem_limit_bytes == 32 * MB
    assert await run_hog(isolator) == -9


@pytest.mark.parametrize("limit_swap", [False, True])
async def test_swap(flags: Flags, limit_swap: bool) -> None:
    isolator = created(MemIsolator, replace(flags, cgroups_limit_swap=limit_swap))
    file = "memory.swap.max" if isolator.unified else "memory.memsw.limit_in_bytes"
    await isolator.prepare(CONTAINER, config())
    group = isolator.group(CONTAINER)
    assert group
    unlimited = cgroup.read(group, file)
    await isolator.update(CONTAINER, LIMIT, Resources())
    limited = "0\n" if isolator.unified else f"{32 * MB}\n"
    assert cgroup.read(group, file) == (limited if limit_swap else unlimited)
    assert ((await isolator.usage(CONTAINER)).mem_total_memsw_bytes is not None) == limit_swap
    await isolator.update(CONTAINER, Resources(mem=64 * MB), Resources())
    assert (await isolator.usage(CONTAINER)).mem_limit_bytes == 64 * MB
    await isolator.update(CONTAINER, Resources(), Resources(mem=math.inf))  # type: ignore[arg-type]
    assert cgroup.read(group, file) == unlimited
    await isolator.cleanup(CONTAINER)
    await isolator.close()


async def test_usage(isolator: MemIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=ENOUGH, limits=Resources(mem=512 * MB)))
    with blocked(HOLD) as process:
        await isolate(isolator, CONTAINER, process.pid)
        isolator.watch(CONTAINER)
        assert process.release().read() == "held"
        usage = await isolator.usage(CONTAINER)
        process.write("end")
        process.wait()
    held = 20_000_000
    for amount in (usage.mem_total_bytes, usage.mem_rss_bytes, usage.mem_anon_bytes, usage.mem_maximum_bytes):
        assert held < (amount or 0) < 256 * MB
    assert usage.mem_rss_bytes == usage.mem_anon_bytes
    assert usage.mem_cache_bytes == usage.mem_file_bytes
    assert usage.mem_cache_bytes is not None
    assert usage.mem_mapped_file_bytes is not None
    assert usage.mem_unevictable_bytes is not None
    if not isolator.unified or cgroup.exists("/proc/pressure", "memory"):
        assert usage.mem_low_pressure_counter is not None
        assert usage.mem_critical_pressure_counter is not None
    assert usage.mem_soft_limit_bytes == 256 * MB
    assert usage.mem_limit_bytes == 512 * MB
    after = await isolator.usage(CONTAINER)
    assert (after.mem_rss_bytes or 0) < held < (after.mem_maximum_bytes or 0)


async def test_recovery_before_the_excess(isolator: MemIsolator, flags: Flags) -> None:
    settings = config(resources=LIMIT)
    await isolator.prepare(CONTAINER, settings)
    await isolator.close()  # As when the process that launched the container has ended.
    recovered = MemIsolator.create(flags)
    await recovered.recover([ContainerState(CONTAINER, settings, None)], [])
    watch = recovered.watch(CONTAINER)
    assert watch
    assert not watch.done()
    assert await run_hog(recovered) == -9
    assert_told(await asyncio.wait_for(watch, 10))
    await recovered.update(CONTAINER, Resources(mem=16 * MB), Resources())
    assert (await recovered.usage(CONTAINER)).mem_limit_bytes == 32 * MB  # There was one already.
    await recovered.cleanup(CONTAINER)
    await recovered.close()


async def test_recovery_after_the_excess(isolator: MemIsolator, flags: Flags) -> None:
    settings = config(resources=LIMIT)
    await isolator.prepare(CONTAINER, settings)
    await isolator.close()
    with blocked(HOG) as process:
        await isolate(isolator, CONTAINER, process.pid)
        assert process.release().wait() == -9
    recovered = MemIsolator.create(flags)
    await recovered.recover([ContainerState(CONTAINER, settings, None)], [])
    watch = recovered.watch(CONTAINER)
    assert watch
    assert_told(await asyncio.wait_for(watch, 10))
    await recovered.cleanup(CONTAINER)
    await recovered.close()


@pytest.mark.parametrize("gives_up", [True, False])
async def test_who_no_longer_listens_is_not_told(isolator: MemIsolator, gives_up: bool) -> None:
    """Neither who has given up the future, nor anybody after the listener is gone."""
    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    watch = isolator.watch(CONTAINER)
    assert watch
    if gives_up:
        watch.cancel()
        assert await run_hog(isolator) == -9
        assert await isolator.limitation(CONTAINER) is None
    else:
        await isolator.cleanup(CONTAINER)
    assert watch.cancelled()


async def test_pressure_is_counted_after_a_recovery(isolator: MemIsolator, flags: Flags, tmp_path: Path) -> None:
    if isolator.unified:
        pytest.skip("in the virtual machine, which has cgroup v2, files are in memory and cannot be dropped")
    settings = config(resources=LIMIT)
    await isolator.prepare(CONTAINER, settings)
    isolator.watch(CONTAINER)
    await isolator.close()
    recovered = MemIsolator.create(flags)
    await recovered.recover([ContainerState(CONTAINER, settings, None)], [])
    recovered.watch(CONTAINER)
    await read_more_than_fits(recovered, tmp_path)
    usage = await recovered.usage(CONTAINER)
    counts = [usage.mem_low_pressure_counter, usage.mem_medium_pressure_counter, usage.mem_critical_pressure_counter]
    assert counts[0]
    assert counts == sorted(counts, key=lambda count: -(count or 0))
    await recovered.cleanup(CONTAINER)
    await recovered.close()


async def test_what_an_earlier_container_did_does_not_count(isolator: MemIsolator, flags: Flags) -> None:
    await isolator.prepare(CONTAINER, config(resources=LIMIT))
    assert await run_hog(isolator) == -9
    again = MemIsolator.create(flags)
    await again.prepare(CONTAINER, config(resources=LIMIT))  # In a cgroup that was left behind.
    assert await again.limitation(CONTAINER) is None
    assert await run_hog(again) == -9
    assert_told(await again.limitation(CONTAINER))
    await again.cleanup(CONTAINER)
    await again.close()


async def test_many_containers_at_once(isolator: MemIsolator) -> None:
    """One is told of its own excess only, and removal is none."""
    containers = [ContainerID(f"c{number}") for number in range(20)]
    for container in containers:
        await isolator.prepare(container, config(resources=LIMIT))
    watches = {container: isolator.watch(container) for container in containers}
    assert await run_hog(isolator, containers[7]) == -9
    told = watches.pop(containers[7])
    assert told
    assert_told(await asyncio.wait_for(told, 10))
    for container in containers[10:]:
        await cgroup.destroy(isolator.group(container) or "")
    assert [await isolator.limitation(container) for container in watches] == [None] * 19
    assert not any(watch.done() for watch in watches.values() if watch)
    for container in containers:
        await isolator.cleanup(container)
    assert all(watch.cancelled() for watch in watches.values() if watch)
