"""Numbers about the agent, by the names that Mesos has for them (`docs/monitoring.md`), as JSON and for Prometheus.

A metric is one line where the number is known:

    metrics.gauge("slave/uptime_secs", lambda: time.time() - started, "Seconds since the agent has started")
    metrics.counter("gc/path_removals_failed", lambda: gc.failed, "Sandboxes that could not be removed")
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mesocosm.agent.timer import PERCENTILES, Timer

logger = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `prometheus` returns."""

Value = Callable[[], float | Awaitable[float]]

_NO_NAME = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Value
    help: str
    counts: bool


class Metrics:
    """All metrics of the agent."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def gauge(self, name: str, value: Value, text: str = "") -> None:
        """A number that `value` returns, at once or when awaited, when somebody wants to know. `text` explains it."""
        self._add(name, _Entry(value, text, counts=False))

    def counter(self, name: str, value: Value, text: str = "") -> None:
        """The same for a number that only grows, from 0 at the start of the agent."""
        self._add(name, _Entry(value, text, counts=True))

    def timer(self, name: str, timer: Timer, text: str = "") -> None:
        """The last of the times, in ms, and as soon as there are two of them `…/count`, `…/min`, `…/p50` and so on."""
        name = f"{name}_ms"
        self.gauge(name, lambda: timer.last, text)
        for part in ("count", *PERCENTILES):
            self.gauge(f"{name}/{part}", _of_times(timer, part), f"{text}: {part}")

    def remove(self, name: str) -> None:
        """Forgets a metric; an unknown one is no error."""
        self._entries.pop(name, None)

    def _add(self, name: str, entry: _Entry) -> None:
        if name in self._entries:
            raise ValueError(f"there already is a metric {name!r}")
        self._entries[name] = entry

    async def snapshot(self, within: float | None = None) -> dict[str, float]:
        """All numbers, sorted by their names, but those that cannot be told, or not within so many seconds."""
        numbers: dict[str, float] = {}
        waiting: dict[asyncio.Future[float], str] = {}
        for name, entry in self._entries.items():
            try:
                value = entry.value()
                if inspect.isawaitable(value):
                    waiting[asyncio.ensure_future(value)] = name
                else:
                    numbers[name] = float(value)
            except Exception as error:  # noqa: BLE001 - one that fails is no reason to hide the others.
                _complain(name, error)
        if waiting:
            numbers |= await _gather(waiting, within)
        return {name: numbers[name] for name in sorted(numbers) if math.isfinite(numbers[name])}

    async def prometheus(self, within: float | None = None) -> bytes:
        """The same in the text format of Prometheus: `slave/uptime_secs` is `mesos_slave_uptime_secs`.

        As is usual there, counters end in `_total`: `mesos_slave_tasks_finished_total`.
        """
        registry = CollectorRegistry()
        registry.register(_Collector(await self.snapshot(within), self._entries))
        return generate_latest(registry)


async def _gather(waiting: Mapping[asyncio.Future[float], str], within: float | None) -> dict[str, float]:
    numbers: dict[str, float] = {}
    try:
        done, _ = await asyncio.wait(waiting, timeout=within)
    finally:
        for future in waiting:
            future.cancel()
    for future in done:
        try:
            numbers[waiting[future]] = float(future.result())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - likewise; it was cancelled by others.
            _complain(waiting[future], error)
    return numbers


def _of_times(timer: Timer, part: str) -> Value:
    return lambda: timer.statistics().get(part, math.nan)


def _complain(name: str, error: BaseException) -> None:
    # Whoever collects metrics comes back every few seconds.
    logger.debug("there is no value of %s: %s", name, error)


class _Collector:
    """A snapshot, as Prometheus's library wants to have it."""

    def __init__(self, numbers: Mapping[str, float], entries: Mapping[str, _Entry]) -> None:
        self._numbers = numbers
        self._entries = entries

    def collect(self) -> Iterator[Metric]:
        for name, number in self._numbers.items():
            entry = self._entries.get(name)
            if entry is not None:  # Removed meanwhile.
                family = CounterMetricFamily if entry.counts else GaugeMetricFamily
                yield family(f"mesos_{_NO_NAME.sub('_', name)}", entry.help or name, value=number)


def add_system_metrics(metrics: Metrics) -> None:
    """Adds those of the machine, `system/…`."""
    metrics.gauge("system/cpus_total", _cpus, "CPUs that are online")
    metrics.gauge("system/load_1min", lambda: os.getloadavg()[0], "Load average of the last minute")
    metrics.gauge("system/load_5min", lambda: os.getloadavg()[1], "Load average of the last 5 minutes")
    metrics.gauge("system/load_15min", lambda: os.getloadavg()[2], "Load average of the last 15 minutes")
    metrics.gauge("system/mem_total_bytes", lambda: psutil.virtual_memory().total, "Memory of the machine")
    metrics.gauge("system/mem_free_bytes", lambda: psutil.virtual_memory().free, "Memory that is used for nothing")


def system_stats() -> dict[str, float]:
    """The same numbers by the names of `/system/stats.json`."""
    load, memory = os.getloadavg(), psutil.virtual_memory()
    return {
        "avg_load_1min": load[0],
        "avg_load_5min": load[1],
        "avg_load_15min": load[2],
        "cpus_total": _cpus(),
        "mem_total_bytes": memory.total,
        "mem_free_bytes": memory.free,
    }


def _cpus() -> int:
    return os.sysconf("SC_NPROCESSORS_ONLN")
