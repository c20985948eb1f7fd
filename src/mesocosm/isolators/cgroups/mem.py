"""`cgroups/mem`: how much memory a container may use; one that needs more is ended, and told why."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from mesocosm.container import ContainerConfig, ContainerID, Resources
from mesocosm.errors import UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import cgroup
from mesocosm.linux.cgroup.events import OomListener, PressureCounters, UnifiedOomListener, stall_times
from mesocosm.linux.cgroup.memory import MEMORY_AND_SWAP, Memory, UnifiedMemory, oom_score
from mesocosm.linux.poll import ChangeWatcher
from mesocosm.statistics import Limitation, ResourceStatistics
from mesocosm.units import format_size

# Microseconds of waiting for memory that count as one pressure event on cgroup v2, which has no such events.
_STALL = 100_000


@dataclass(slots=True)
class _Watch:
    """What listens to the cgroup of a container, and what comes of it."""

    group: str
    limitation: asyncio.Future[Limitation]
    oom: OomListener | UnifiedOomListener
    pressure: PressureCounters | None = None

    def close(self) -> None:
        self.limitation.cancel()
        self.oom.close()
        if self.pressure is not None:
            self.pressure.close()


class MemIsolator(CgroupIsolator):
    """Protects `resources.mem` of a container from reclaim, and limits it to `limits.mem`, else to the request.

    The flag cgroups_limit_swap limits memory and swap together.
    """

    controllers = ("memory",)
    unified_controllers = ("memory",)
    resource = "mem"

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._memory = UnifiedMemory() if self.unified else Memory()
        self._changes = ChangeWatcher()
        self._watches: dict[ContainerID, _Watch] = {}
        self._limited: set[ContainerID] = set()

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses also where swap is to be limited and is not accounted."""
        isolator = super().create(flags)
        path = isolator.hierarchies[0].path
        if flags.cgroups_limit_swap and not isolator.unified and not cgroup.exists(path, MEMORY_AND_SWAP):
            raise UnsupportedError(
                f"cgroups/mem: --cgroups_limit_swap needs {MEMORY_AND_SWAP}, which {path} has not",
                "start the kernel with swapaccount=1, or leave --cgroups_limit_swap out",
            )
        return isolator

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Listens again, and looks for what happened while nobody listened."""
        await super().recover(containers, orphans)
        for state in containers:
            if group := self.group(state.container_id):
                self._limited.add(state.container_id)
                self._listen(state.container_id, group, 0)
                self._check(state.container_id)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Listens to the cgroup, too."""
        info = await super().prepare(container_id, config)
        if group := self.group(container_id):
            listener = UnifiedOomListener if self.unified else OomListener
            self._listen(container_id, group, listener.times(group))
        return info

    async def isolate(self, container_id: ContainerID, pid: int) -> None:
        """Also marks a nested container that may use more than its request as one to be killed early.

        That is for a machine that runs out of memory, and as in Mesos, which does it for tasks.
        """
        await super().isolate(container_id, pid)
        group = self.group(container_id)
        if group is None or container_id.parent is None:
            return
        request, limit = self._memory.request(group), self._memory.limit(group)
        if request is not None and (limit is None or request < limit):
            cgroup.write(f"/proc/{pid}", "oom_score_adj", oom_score(request))

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Resolves when the container ran out of memory because of its own limit. Pressure is counted from now on."""
        if (group := self.group(container_id)) is None:
            return None
        watch = self._watches[container_id]
        if not self.unified and watch.pressure is None:
            watch.pressure = _pressure_counters(group)
        return watch.limitation

    async def limitation(self, container_id: ContainerID) -> Limitation | None:
        """The same, asked for at the end of the container, which may be seen before the event."""
        if container_id not in self._watches:
            return None
        self._check(container_id)
        limitation = self._watches[container_id].limitation
        return limitation.result() if limitation.done() and not limitation.cancelled() else None

    async def cleanup(self, container_id: ContainerID) -> None:
        """Stops listening, too."""
        if watch := self._watches.pop(container_id, None):
            watch.close()
        self._limited.discard(container_id)
        await super().cleanup(container_id)

    async def close(self) -> None:
        """Stops listening to all."""
        while self._watches:
            self._watches.popitem()[1].close()
        self._changes.close()

    def apply(
        self, container_id: ContainerID, groups: tuple[str, ...], resources: Resources, limits: Resources
    ) -> None:
        """Writes the request, and the limit if there is one."""
        if resources.mem is not None:
            self._memory.set_request(groups[0], int(resources.mem))
        limit = resources.mem if limits.mem is None else limits.mem
        if limit is not None:
            self._set_limit(container_id, groups[0], None if math.isinf(limit) else int(limit))

    def _set_limit(self, container_id: ContainerID, group: str, limit: int | None) -> None:
        """A limit once set is only raised: to lower it could kill the container."""
        first = container_id not in self._limited
        if not first and limit is not None and limit <= (self._memory.limit(group) or math.inf):
            return
        self._memory.set_limit(group, limit, swap=self.flags.cgroups_limit_swap, lower=first)
        self._limited.add(container_id)

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """Reads the amounts and the pressure counters."""
        group = groups[0]
        amounts = self._memory.measure(group, swap=self.flags.cgroups_limit_swap)
        pressure = self._pressure(container_id, group)
        counts: dict[str, Any] = {f"mem_{name}_bytes": amount for name, amount in amounts.items()}
        counts |= {f"mem_{level}_pressure_counter": count for level, count in pressure.items()}
        return ResourceStatistics(**counts)

    def _pressure(self, container_id: ContainerID, group: str) -> dict[str, int]:
        if self.unified:
            return _stalls(group)
        counters = self._watches[container_id].pressure
        return {} if counters is None else counters.read()

    def _listen(self, container_id: ContainerID, group: str, known: int) -> None:
        callback = partial(self._check, container_id)
        self._watches[container_id] = _Watch(
            group,
            asyncio.get_running_loop().create_future(),
            UnifiedOomListener(group, callback, self._changes, known)
            if self.unified
            else OomListener(group, callback, known),
        )

    def _check(self, container_id: ContainerID) -> None:
        watch = self._watches[container_id]
        if watch.oom.happened() and not watch.limitation.done():
            watch.limitation.set_result(
                Limitation("REASON_CONTAINER_LIMITATION_MEMORY", self._message(watch.group), self.resource)
            )

    def _message(self, group: str) -> str:
        """In the words of Mesos. The statistics are those of now: the kernel may have freed memory already."""
        limit, maximum = self._memory.limit(group), self._memory.maximum(group)
        requested = "" if limit is None else f"Requested: {format_size(limit)} "
        used = "" if maximum is None else f"Maximum Used: {format_size(maximum)}"
        statistics = cgroup.read(group, "memory.stat")
        return f"Memory limit exceeded: {requested}{used}\n\nMEMORY STATISTICS: \n{statistics}"


def _pressure_counters(group: str) -> PressureCounters | None:
    try:
        return PressureCounters(group)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):  # A kernel with PREEMPT_RT.
            raise
        return None


def _stalls(group: str) -> dict[str, int]:
    """Pressure on v2: that any process waits for memory counts as low, that all do as critical; nothing as medium."""
    try:
        times = stall_times(group, "memory.pressure")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP) or not cgroup.exists(group):
            raise
        return {}
    return {"low": times["some"] // _STALL, "critical": times["full"] // _STALL}
