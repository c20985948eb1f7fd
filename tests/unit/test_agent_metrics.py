"""Metrics: all numbers that can be told, when they are asked for."""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path

import pytest

from mesocosm.agent.metrics import CONTENT_TYPE, Metrics, add_system_metrics, system_stats


async def after(seconds: float, value: float) -> float:
    await asyncio.sleep(seconds)
    return value


async def fail() -> float:
    raise RuntimeError("no")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def test_snapshot(metrics: Metrics) -> None:
    failures = [0]
    metrics.gauge("slave/registered", lambda: True)
    metrics.gauge("slave/mem_used", lambda: after(0, 96))
    metrics.counter("gc/path_removals_failed", lambda: failures[0])
    failures[0] += 2
    snapshot = await metrics.snapshot()
    assert list(snapshot.items()) == [
        ("gc/path_removals_failed", 2.0),
        ("slave/mem_used", 96.0),
        ("slave/registered", 1.0),
    ]
    assert {type(value) for value in snapshot.values()} == {float}


async def test_one_that_fails_does_not_hide_others(metrics: Metrics) -> None:
    metrics.gauge("zero", lambda: 1 / 0)
    metrics.gauge("nan", lambda: math.nan)
    metrics.gauge("infinite", lambda: after(0, math.inf))
    metrics.gauge("fails", fail)
    metrics.gauge("text", lambda: "x")  # type: ignore[arg-type, return-value]
    metrics.gauge("good", lambda: 7)
    assert await metrics.snapshot() == {"good": 7.0}


async def test_one_that_is_cancelled_by_others(metrics: Metrics) -> None:
    future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    future.cancel()
    metrics.gauge("cancelled", lambda: future)
    metrics.gauge("good", lambda: 7)
    assert await metrics.snapshot() == {"good": 7.0}


async def test_slow_ones_are_waited_for_together_or_not(metrics: Metrics) -> None:
    stopped = asyncio.Event()

    async def forever() -> float:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return 0

    for number in range(20):
        metrics.gauge(f"slow/{number}", lambda: after(0.05, 1))
    async with asyncio.timeout(0.5):
        assert len(await metrics.snapshot()) == 20
    metrics.gauge("never", forever)
    metrics.gauge("now", lambda: 1)
    assert await metrics.snapshot(0.01) == {"now": 1.0}
    async with asyncio.timeout(5):
        await stopped.wait()


async def test_a_request_that_is_given_up_leaves_no_task(metrics: Metrics) -> None:
    metrics.gauge("never", lambda: after(1000, 0))
    task = asyncio.create_task(metrics.snapshot())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_names_are_taken_once(metrics: Metrics) -> None:
    metrics.gauge("slave/uptime_secs", lambda: 1)
    with pytest.raises(ValueError, match="already is a metric 'slave/uptime_secs'"):
        metrics.counter("slave/uptime_secs", lambda: 1)
    metrics.remove("slave/uptime_secs")
    metrics.remove("slave/uptime_secs")
    metrics.counter("slave/uptime_secs", lambda: 2)
    assert await metrics.snapshot() == {"slave/uptime_secs": 2.0}


async def test_prometheus(metrics: Metrics) -> None:
    metrics.gauge("slave/cpus_total", lambda: 2, "CPUs")
    metrics.counter("slave/tasks_finished", lambda: 3, "Tasks that have finished")
    metrics.gauge("containerizer/mesos/x-y.z", lambda: after(0, 0.5))
    metrics.gauge("fails", fail)
    text = (await metrics.prometheus(1)).decode()
    assert text.splitlines() == [
        "# HELP mesos_containerizer_mesos_x_y_z containerizer/mesos/x-y.z",
        "# TYPE mesos_containerizer_mesos_x_y_z gauge",
        "mesos_containerizer_mesos_x_y_z 0.5",
        "# HELP mesos_slave_cpus_total CPUs",
        "# TYPE mesos_slave_cpus_total gauge",
        "mesos_slave_cpus_total 2.0",
        "# HELP mesos_slave_tasks_finished_total Tasks that have finished",
        "# TYPE mesos_slave_tasks_finished_total counter",
        "mesos_slave_tasks_finished_total 3.0",
    ]
    assert CONTENT_TYPE.startswith("text/plain; version=")


async def test_the_machine(metrics: Metrics) -> None:
    add_system_metrics(metrics)
    snapshot = await metrics.snapshot()
    assert list(snapshot) == [
        *("system/cpus_total", "system/load_15min", "system/load_1min", "system/load_5min"),
        *("system/mem_free_bytes", "system/mem_total_bytes"),
    ]
    assert snapshot["system/cpus_total"] == os.cpu_count()
    assert 0 < snapshot["system/mem_free_bytes"] < snapshot["system/mem_total_bytes"]
    stats = system_stats()
    assert list(stats) == [
        *("avg_load_1min", "avg_load_5min", "avg_load_15min", "cpus_total", "mem_total_bytes", "mem_free_bytes")
    ]
    assert stats["mem_total_bytes"] == snapshot["system/mem_total_bytes"]
    if (meminfo := Path("/proc/meminfo")).exists():
        total = int(meminfo.read_text().split()[1]) * 1024
        assert stats["mem_total_bytes"] == total
