"""`cgroups/cpu` against processes that burn the CPU: quota, share, and the times that it reports."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import ContainerID, LinuxInfo, Resources
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.cpu import CpuIsolator
from tests.isolating import isolate
from tests.kernel.cgroup_support import CONTAINER, blocked, config, created, group_of
from tests.launching import TIMEOUT

pytestmark = pytest.mark.kernel
COUNT = "i=0; while [ $i -lt {} ]; do i=$((i+1)); done"
METERED = """
import time
print("up", flush=True)
input()
begin = time.process_time()
while time.process_time() < begin + 0.0135: pass
print(time.process_time() - begin, flush=True)
input()
"""
WORK = 0.1
"""Seconds of CPU time."""
NESTED = ContainerID("n", CONTAINER)
OTHER = ContainerID("other")
Contest = Callable[[CpuIsolator, Resources, Resources], Awaitable[tuple[int, int]]]


@pytest.fixture(scope="module")
def burn() -> str:
    """A script that takes the CPU for `WORK` seconds on this machine, be it an emulated one."""
    count = 20000
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", COUNT.format(count)], os.environ)
    used = os.wait4(pid, 0)[2].ru_utime
    return COUNT.format(int(count * WORK / used))


@pytest.fixture
async def isolator(flags: Flags) -> AsyncIterator[CpuIsolator]:
    isolator = created(CpuIsolator, replace(flags, cgroups_enable_cfs=True))
    yield isolator
    await isolator.cleanup(CONTAINER)


@pytest.fixture
async def contest(burn: str) -> AsyncIterator[Contest]:
    """Two containers want one CPU. How much of it each had while the first did its work, which takes a while.

    The first reads the times itself, when it has the CPU and the other has not: what somebody else reads is of another
    moment, and much later on a machine that is busy.
    """
    started: list[CpuIsolator] = []

    async def meet(isolator: CpuIsolator, *resources: Resources) -> tuple[int, int]:
        started.append(isolator)
        for container, wanted in zip((CONTAINER, OTHER), resources, strict=True):
            await isolator.prepare(container, config(resources=wanted))
        read = "".join(f"read -r time < {times(isolator, container)}; echo $time; " for container in (CONTAINER, OTHER))
        with blocked(f"{read}{f'{burn}; ' * 6}{read}") as first, blocked("while :; do :; done") as second:
            cpu = min(os.sched_getaffinity(0))
            for container, process in ((CONTAINER, first), (OTHER, second)):
                await isolate(isolator, container, process.pid)
                os.sched_setaffinity(process.pid, {cpu})
            second.release()
            first.release()
            before, after = ([int(first.read().split()[-1]) for _ in resources] for _ in range(2))
        return after[0] - before[0], after[1] - before[1]

    yield meet
    for isolator in started:
        for container in (CONTAINER, OTHER):
            await isolator.cleanup(container)


def times(isolator: CpuIsolator, container_id: ContainerID) -> str:
    """The file whose first line ends with the CPU time of a container, in whatever unit."""
    controller, file = ("cpu", "cpu.stat") if isolator.unified else ("cpuacct", "cpuacct.usage")
    return f"{group_of(isolator.flags, controller, container_id)}/{file}"


def favour(isolator: CpuIsolator) -> None:
    """Gives the container all the time that others want, so that nothing but its quota can hold it back."""
    group = isolator.group(CONTAINER)
    assert group is not None
    file, most = ("cpu.weight", "10000") if isolator.unified else ("cpu.shares", "262144")
    for directory in (Path(group).parent, Path(group)):
        (directory / file).write_text(most)


async def throttled(isolator: CpuIsolator, burn: str, resources: Resources, limits: Resources) -> tuple[int, float]:
    """How often a process was throttled that does some work, and how many CPUs it used on the way."""
    await isolator.prepare(CONTAINER, config(resources=resources, limits=limits))
    favour(isolator)
    with blocked(burn) as process:
        await isolate(isolator, CONTAINER, process.pid)
        started = time.monotonic()
        process.release()
        assert process.wait() == 0
        elapsed = time.monotonic() - started
    usage = await isolator.usage(CONTAINER)
    assert usage.cpus_user_time_secs is not None
    assert usage.cpus_system_time_secs is not None
    assert usage.cpus_nr_throttled is not None
    assert usage.cpus_throttled_time_secs is not None
    assert (usage.cpus_nr_throttled > 0) == (usage.cpus_throttled_time_secs > 0)
    return usage.cpus_nr_throttled, (usage.cpus_user_time_secs + usage.cpus_system_time_secs) / elapsed


async def test_times_are_exact_in_sum(isolator: CpuIsolator) -> None:
    """Finer than the kernel's ticks, and than those of 10 ms that cpuacct.stat counts in."""
    await isolator.prepare(CONTAINER, config())
    with blocked(f"exec {sys.executable} -S -c '{METERED}'") as process:
        process.release()
        assert process.read() == "up"
        await isolate(isolator, CONTAINER, process.pid)
        process.write("go")
        used = float(process.read())
        usage = await isolator.usage(CONTAINER)
    assert usage.cpus_user_time_secs is not None
    assert usage.cpus_system_time_secs is not None
    assert used <= usage.cpus_user_time_secs + usage.cpus_system_time_secs < used + 0.05


@pytest.mark.slow  # Of an emulated processor there is no telling.
async def test_time_in_the_kernel(isolator: CpuIsolator) -> None:
    """Which has to make the random bytes; the command only passes them on."""
    await isolator.prepare(CONTAINER, config())
    with blocked("exec cat /dev/urandom > /dev/null") as process:
        await isolate(isolator, CONTAINER, process.pid)
        process.release()
        async with asyncio.timeout(TIMEOUT):
            while ((usage := await isolator.usage(CONTAINER)).cpus_system_time_secs or 0) < 0.125:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # Of time that is used there is no event.
    assert (usage.cpus_system_time_secs or 0) > (usage.cpus_user_time_secs or 0)


@pytest.mark.parametrize(
    ("resources", "limits"),
    [
        (Resources(cpus=0.2), Resources()),
        (Resources(cpus=1), Resources(cpus=0.2)),
        (Resources(), Resources(cpus=0.2)),
    ],
)
async def test_quota(isolator: CpuIsolator, burn: str, resources: Resources, limits: Resources) -> None:
    times, cpus = await throttled(isolator, burn, resources, limits)
    assert times > 0
    assert cpus < 0.5


@pytest.mark.parametrize("limits", [Resources(cpus=math.inf), Resources(cpus=500)])
async def test_no_quota(isolator: CpuIsolator, burn: str, limits: Resources) -> None:
    times, _ = await throttled(isolator, burn, Resources(cpus=0.2), limits)
    assert times == 0


@pytest.mark.slow
async def test_no_quota_without_the_flag(isolator: CpuIsolator, burn: str, flags: Flags) -> None:
    times, _ = await throttled(CpuIsolator.create(flags), burn, Resources(cpus=0.2), Resources())
    assert times == 0


async def test_quota_is_lifted_while_it_runs(isolator: CpuIsolator, burn: str) -> None:
    await isolator.prepare(CONTAINER, config(limits=Resources(cpus=0.01)))
    assert (await isolator.usage(CONTAINER)).cpus_limit == 0.01
    with blocked(burn) as process:
        await isolate(isolator, CONTAINER, process.pid)
        process.release()
        await isolator.update(CONTAINER, Resources(cpus=2), Resources(cpus=math.inf))
        assert process.wait() == 0
    usage = await isolator.usage(CONTAINER)
    assert usage.cpus_limit is None
    assert usage.cpus_soft_limit == 2


async def test_a_quota_of_more_time_than_a_period_has(isolator: CpuIsolator) -> None:
    """100 s in each tenth of a second."""
    await isolator.prepare(CONTAINER, config(limits=Resources(cpus=1000)))
    assert (await isolator.usage(CONTAINER)).cpus_limit == 1000


@pytest.mark.parametrize(("cpus", "least", "most"), [(1, 0.6, 1.6), (4, 2.2, 8)])
async def test_share(contest: Contest, flags: Flags, cpus: float, least: float, most: float) -> None:
    """While the first does its work, the second gets so much less done."""
    isolator = created(CpuIsolator, flags)
    own, others = await contest(isolator, Resources(cpus=cpus), Resources(cpus=1))
    assert least < own / others < most


async def test_a_quota_around_a_nested_container(isolator: CpuIsolator, burn: str) -> None:
    """The quota of a container holds for those nested in it too, whether they share its cgroup or have one in it."""
    await isolator.prepare(CONTAINER, config(resources=Resources(cpus=0.2)))
    for share in (True, False):
        await isolator.prepare(NESTED, config(linux_info=LinuxInfo(share_cgroups=share)))
        before = (await isolator.usage(CONTAINER)).cpus_nr_throttled or 0
        with blocked(burn) as process:
            await isolate(isolator, NESTED, process.pid)
            process.release()
            assert process.wait() == 0
        assert ((await isolator.usage(CONTAINER)).cpus_nr_throttled or 0) > before
        own_time = (await isolator.usage(NESTED)).cpus_user_time_secs
        assert own_time is None if share else own_time
        await isolator.cleanup(NESTED)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_quota_below_that_of_a_nested_container(isolator: CpuIsolator, ends: bool) -> None:
    """On v1 the kernel refuses it, and for some milliseconds after the nested one has ended, too."""
    for _ in range(20 if ends and not isolator.unified else 1):
        await isolator.prepare(CONTAINER, config(resources=Resources(cpus=0.7)))
        await isolator.prepare(NESTED, config(limits=Resources(cpus=0.5), linux_info=LinuxInfo(share_cgroups=False)))
        with blocked("exit 0") as process:
            await isolate(isolator, NESTED, process.pid)
            process.release().wait()
        if ends:
            await isolator.cleanup(NESTED)
        elif not isolator.unified:
            with pytest.raises(ContainerError, match=r"cannot have 0.2 cpus: .*/c/mesos/n has 0.5$"):
                await isolator.update(CONTAINER, Resources(cpus=0.2), Resources())
            await isolator.cleanup(NESTED)
        await isolator.update(CONTAINER, Resources(cpus=0.2), Resources())
        assert (await isolator.usage(CONTAINER)).cpus_limit == 0.2
        await isolator.cleanup(NESTED)
        await isolator.cleanup(CONTAINER)


@pytest.mark.parametrize(("low", "least"), [(True, 4), (False, 0)])
async def test_revocable_cpus(contest: Contest, flags: Flags, low: bool, least: float) -> None:
    """They get hardly anything while others want it, if the flag says so; an update makes them equal again."""
    isolator = created(CpuIsolator, replace(flags, revocable_cpu_low_priority=low))
    own, others = await contest(isolator, Resources(cpus=1), Resources(cpus=1, cpus_revocable=True))
    assert own > least * others
    soft_limit = (await isolator.usage(OTHER)).cpus_soft_limit
    assert soft_limit is not None
    assert (soft_limit < 0.02) == low
    await isolator.update(OTHER, Resources(cpus=1), Resources())
    assert (await isolator.usage(OTHER)).cpus_soft_limit == 1


@pytest.mark.parametrize("counted", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_processes_and_threads(flags: Flags, counted: bool) -> None:
    isolator = created(CpuIsolator, replace(flags, cgroups_cpu_enable_pids_and_tids_count=counted))
    await isolator.prepare(CONTAINER, config())
    threads = "import threading, sys; e = threading.Event()\nfor _ in range(3): threading.Thread(target=e.wait).start()"
    with blocked(f"exec python3 -c '{threads}\nprint(1, flush=True); sys.stdin.read(); e.set()'") as process:
        await isolate(isolator, CONTAINER, process.pid)
        process.release()
        assert process.read() == "1"
        usage = await isolator.usage(CONTAINER)
    assert (usage.processes, usage.threads) == ((1, 4) if counted else (None, None))
    await isolator.cleanup(CONTAINER)
