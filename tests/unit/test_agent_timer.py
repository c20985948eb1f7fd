"""Timers: the last time, and statistics of those of a while."""

from __future__ import annotations

import math

import pytest

from mesocosm.agent.metrics import Metrics
from mesocosm.agent.timer import Timer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_told_of_what_has_not_happened() -> None:
    timer = Timer()
    assert math.isnan(timer.last)
    assert timer.statistics() == {}


def test_one_time_is_no_statistics() -> None:
    timer = Timer()
    timer.record(0.25)
    assert (timer.last, timer.statistics()) == (250.0, {})


def test_percentiles_are_interpolated() -> None:
    timer = Timer()
    for milliseconds in (5, 1, 4, 2, 3):
        timer.record(milliseconds / 1000)
    assert timer.last == 3.0
    expected = {"count": 5, "min": 1, "p50": 3, "p90": 4.6, "p95": 4.8, "p99": 4.96, "p999": 4.996, "p9999": 4.9996}
    assert timer.statistics() == pytest.approx({**expected, "max": 5})


def test_what_is_older_than_the_window_does_not_count() -> None:
    clock = Clock()
    timer = Timer(window=10, clock=clock)
    for clock.now in (0.0, 5.0, 12.0):
        timer.record(clock.now)
    assert timer.statistics()["count"] == 2
    assert timer.statistics()["min"] == 5000
    clock.now = 100.0
    assert timer.statistics() == {}
    assert timer.last == 12000


def test_a_busy_one_keeps_the_last_thousand() -> None:
    timer = Timer()
    for seconds in range(5000):
        timer.record(seconds)
    statistics = timer.statistics()
    assert (statistics["count"], statistics["min"], statistics["max"]) == (1000, 4_000_000, 4_999_000)


async def test_they_are_metrics() -> None:
    metrics, timer = Metrics(), Timer()
    metrics.timer("images/pull", timer, "Pulls")
    assert await metrics.snapshot() == {}
    timer.record(1)
    assert await metrics.snapshot() == {"images/pull_ms": 1000}
    timer.record(3)
    snapshot = await metrics.snapshot()
    assert list(snapshot) == [
        *("images/pull_ms", "images/pull_ms/count", "images/pull_ms/max", "images/pull_ms/min", "images/pull_ms/p50"),
        *(f"images/pull_ms/p{part}" for part in (90, 95, 99, 999, 9999)),
    ]
    assert (snapshot["images/pull_ms"], snapshot["images/pull_ms/p50"]) == (3000, 2000)
    assert b"\nmesos_images_pull_ms_p50 2000.0\n" in await metrics.prometheus()
