"""`posix/cpu` and `posix/mem` against trees of processes: what they use is summed up, and nothing is limited."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator

import pytest

from mesocosm.container import ContainerID, Resources
from mesocosm.errors import ContainerError, UnknownContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.posix.base import PosixIsolator
from mesocosm.isolators.posix.cpu import PosixCpuIsolator
from mesocosm.isolators.posix.mem import PosixMemIsolator
from tests.kernel.cgroup_support import CONTAINER, MB, blocked, config

pytestmark = pytest.mark.kernel
HOLD = "x=$(head -c 20M /dev/zero | tr '\\0' x); echo held; read -r end"
BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo burnt"


@pytest.fixture
async def cpu(flags: Flags) -> AsyncIterator[PosixCpuIsolator]:
    isolator = PosixCpuIsolator.create(flags)
    await isolator.prepare(CONTAINER, config(resources=Resources(cpus=0.01, mem=MB)))
    yield isolator
    await isolator.cleanup(CONTAINER)


@pytest.fixture
async def mem(flags: Flags) -> AsyncIterator[PosixMemIsolator]:
    isolator = PosixMemIsolator.create(flags)
    await isolator.prepare(CONTAINER, config(resources=Resources(cpus=0.01, mem=MB)))
    yield isolator
    await isolator.cleanup(CONTAINER)


async def times(isolator: PosixIsolator) -> float:
    usage = await isolator.usage(CONTAINER)
    assert usage.cpus_user_time_secs is not None
    assert usage.cpus_system_time_secs is not None
    return usage.cpus_user_time_secs + usage.cpus_system_time_secs


@pytest.mark.parametrize("script", [BURN, f"({BURN})", f"({BURN}) & wait"])
async def test_cpu_time(cpu: PosixCpuIsolator, script: str) -> None:
    """That of the init, of a child, and of one that has ended."""
    with blocked(f"{script}; read -r end") as process, blocked(BURN) as beside:
        await cpu.isolate(CONTAINER, process.pid)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        assert beside.release().read() == "burnt"  # None of the container's.
        beside.wait()
        burnt = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        idle = await times(cpu)
        assert idle < burnt / 3
        assert process.release().read() == "burnt"
        used = await times(cpu)
        assert burnt / 3 < used - idle < burnt * 3
        assert await times(cpu) >= used


async def test_processes_and_threads(cpu: PosixCpuIsolator) -> None:
    with blocked("sleep 60 >&- & (sleep 60 >&- & echo; wait) & read -r end") as process:
        await cpu.isolate(CONTAINER, process.pid)
        usage = await cpu.usage(CONTAINER)
        assert (usage.processes, usage.threads) == (1, 1)
        process.release().read()
        usage = await cpu.usage(CONTAINER)
        assert (usage.processes, usage.threads) == (4, 4)
        os.killpg(process.pid, 9)


async def test_memory(mem: PosixMemIsolator) -> None:
    with blocked(f"({HOLD}) & wait") as one, blocked(f"exec 3<&0; ({HOLD}) <&3 & {HOLD}") as two:
        await mem.isolate(CONTAINER, one.pid)
        assert ((await mem.usage(CONTAINER)).mem_rss_bytes or 0) < 20 * MB
        await mem.isolate(CONTAINER, two.pid)
        two.release()
        assert [two.read(), two.read()] == ["held", "held"]
        assert 40 * MB < ((await mem.usage(CONTAINER)).mem_rss_bytes or 0) < 120 * MB
        os.killpg(two.pid, 9)


@pytest.mark.parametrize("kind", [PosixCpuIsolator, PosixMemIsolator])
async def test_who_is_known(kind: type[PosixIsolator], flags: Flags) -> None:
    isolator = kind.create(flags)
    with pytest.raises(UnknownContainerError):
        await isolator.usage(CONTAINER)
    await isolator.prepare(CONTAINER, config())
    with pytest.raises(ContainerError, match="no process"):
        await isolator.usage(CONTAINER)
    with blocked("read -r end") as process:
        await isolator.isolate(CONTAINER, process.pid)
        assert await isolator.usage(CONTAINER)
        assert isolator.watch(CONTAINER) is None
        recovered, forked = kind.create(flags), ContainerID("forked")
        states = [ContainerState(CONTAINER, config(), process.pid), ContainerState(forked, config(), None)]
        await recovered.recover(states, [])
        assert await recovered.usage(CONTAINER)
        with pytest.raises(ContainerError, match="no process"):
            await recovered.usage(forked)
    with pytest.raises(ContainerError, match="ended"):
        await isolator.usage(CONTAINER)
    await isolator.cleanup(CONTAINER)
    await isolator.cleanup(CONTAINER)
    with pytest.raises(UnknownContainerError):
        await isolator.usage(CONTAINER)
