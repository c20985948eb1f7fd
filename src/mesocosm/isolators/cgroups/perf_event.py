"""`cgroups/perf_event`: counts performance events of containers, at intervals."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Collection
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import cgroup
from mesocosm.linux.perf import EVENTS, Counters, Event
from mesocosm.statistics import PerfStatistics, ResourceStatistics

logger = logging.getLogger(__name__)

_CLOCKS = ("cpu-clock", "task-clock")
_MILLISECOND = 1e6
_GONE = frozenset({errno.ENOENT, errno.ENODEV})


def events_of(flags: Flags) -> tuple[Event, ...]:
    """Those of the flag perf_events. Raises FlagError for what is none, and for times that make no sense."""
    if flags.perf_events is None:
        return ()
    names = [name.strip() for name in flags.perf_events.split(",") if name.strip()]
    if unknown := [name for name in names if name not in EVENTS]:
        raise FlagError(f"--perf_events: there is no event {unknown[0]!r}", "see perf-list(1)")
    if not names:
        raise FlagError("--perf_events names no event", "name one, or remove the flag")
    if not 0 < flags.perf_duration <= flags.perf_interval:
        raise FlagError(
            f"--perf_duration is {flags.perf_duration:g} s, and --perf_interval {flags.perf_interval:g} s",
            "count for some time, and for no longer than the interval",
        )
    return tuple(dict.fromkeys(EVENTS[name] for name in names))


class PerfEventIsolator(CgroupIsolator):
    """Counts the events of the flag perf_events in all containers, for perf_duration in each perf_interval.

    Sources: perf_event_open(2), perf-stat(1) with --for-each-cgroup.
    """

    controllers = ("perf_event",)
    unified_controllers = ()

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._events = events_of(flags)
        self._latest: dict[ContainerID, PerfStatistics] = {}
        self._sampling: asyncio.Task[None] | None = None

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses also events that this machine cannot count. Raises FlagError for flags that make no sense."""
        isolator = super().create(flags)
        for event in events_of(flags):
            try:
                Counters(isolator.hierarchies[0].path, (event,)).close()
            except OSError as error:
                raise UnsupportedError(
                    f"cgroups/perf_event: this machine cannot count {event.name}: {error}",
                    "leave it out of --perf_events; a virtual machine often has software events only",
                ) from error
        return isolator

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Counts in them again."""
        await super().recover(containers, orphans)
        if containers:
            self._begin()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Counts in the container from the next interval on."""
        self._begin()
        return await super().prepare(container_id, config)

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """What the last time has counted; nothing yet in the first interval."""
        return ResourceStatistics(perf=self._latest.get(container_id))

    async def cleanup(self, container_id: ContainerID) -> None:
        """Also forgets what was counted."""
        await super().cleanup(container_id)
        self._latest.pop(container_id, None)

    async def close(self) -> None:
        """Ends the counting."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait((self._sampling,))
            self._sampling = None

    def _begin(self) -> None:
        if self._events and self._sampling is None:
            self._sampling = asyncio.create_task(self._sample_at_intervals())

    async def _sample_at_intervals(self) -> None:
        while True:
            following = time.monotonic() + self.flags.perf_interval
            try:
                await self._sample()
            except OSError as error:
                logger.error("performance events are not counted in this interval: %s", error)
            await asyncio.sleep(following - time.monotonic())

    async def _sample(self) -> None:
        """Counts for the duration, in the containers that there are now. Raises OSError."""
        groups = {container_id: known[0] for container_id, known in self._groups.items() if known}
        counters: dict[ContainerID, Counters] = {}
        timestamp, began = time.time(), time.monotonic()
        opening = asyncio.create_task(asyncio.to_thread(self._open, groups, counters))
        try:
            await asyncio.shield(opening)
            await asyncio.sleep(self.flags.perf_duration)
            duration = time.monotonic() - began
            for container_id in counters.keys() & self._groups.keys():
                self._latest[container_id] = PerfStatistics(timestamp, duration, _counts(counters[container_id]))
        finally:
            await asyncio.wait((opening,))  # A thread goes on when it is cancelled.
            for each in counters.values():
                each.close()

    def _open(self, groups: dict[ContainerID, str], counters: dict[ContainerID, Counters]) -> None:
        for container_id, group in groups.items():
            try:
                counters[container_id] = Counters(group, self._events)
            except OSError as error:
                if error.errno not in _GONE or cgroup.exists(group):
                    raise


def field_of(event: Event) -> str:
    """Its field in `PerfStatistics`."""
    return event.name.lower().replace("-", "_")


def _counts(counters: Counters) -> dict[str, int | float]:
    """By the fields of `PerfStatistics`; clocks in milliseconds, as perf-stat(1) has them."""
    return {
        field_of(event): count / _MILLISECOND if event.name in _CLOCKS else count
        for event, count in counters.read().items()
    }
