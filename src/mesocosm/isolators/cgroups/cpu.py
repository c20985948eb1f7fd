"""`cgroups/cpu`: the share of the CPU that a container gets, the time it may use at most, and the time it used."""

from __future__ import annotations

import asyncio
import errno
import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from mesocosm.container import ContainerID, Resources
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.linux import cgroup
from mesocosm.statistics import ResourceStatistics

SHARES_PER_CPU = 1024
SHARES_PER_REVOCABLE_CPU = 10
SHARES_MINIMUM = 2
# As the kernel has it, 1024 shares and a weight of 100 are the same (sched_weight_from_cgroup in kernel/sched/sched.h).
WEIGHT_PER_CPU = 100
WEIGHT_PER_REVOCABLE_CPU = 1
WEIGHT_MINIMUM, WEIGHT_MAXIMUM = 1, 10000
PERIOD = 100_000
"""Microseconds; also what the kernel gives a new cgroup."""
QUOTA_MINIMUM = 1_000
_RELEASED = 5.0
"""Seconds in which the kernel forgets a cgroup that was removed, even where it has much else to do."""


def shares(cpus: float, *, low: bool = False) -> int:
    """The cpu.shares of cgroup v1 for `cpus`; with `low`, for those that can be taken away again."""
    return max(SHARES_MINIMUM, int(cpus * (SHARES_PER_REVOCABLE_CPU if low else SHARES_PER_CPU)))


def weight(cpus: float, *, low: bool = False) -> int:
    """The cpu.weight of cgroup v2, likewise."""
    return min(WEIGHT_MAXIMUM, max(WEIGHT_MINIMUM, int(cpus * (WEIGHT_PER_REVOCABLE_CPU if low else WEIGHT_PER_CPU))))


def quota(cpus: float) -> int | None:
    """Microseconds of CPU time in each period, None without a limit."""
    return None if math.isinf(cpus) else max(QUOTA_MINIMUM, int(cpus * PERIOD))


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Nanoseconds of CPU time, in user mode and in the kernel."""

    user: int = 0
    system: int = 0

    def split(self, total: int, user: int, system: int) -> CpuTimes:
        """The times later, when they are `total` together: divided as `user` and `system` are, but neither falls.

        The kernel does the same for a process (cputime_adjust in kernel/sched/cputime.c): it measures the whole, and
        takes samples of the parts.
        """
        share = total * user // (user + system) if user + system else total
        share = min(max(share, self.user), total - self.system)
        return CpuTimes(share, total - share)


class CpuIsolator(CgroupIsolator):
    """Weighs containers by `resources.cpus` when they compete, and throttles them at `limits.cpus`.

    Without a limit that is the request too, if the flag cgroups_enable_cfs is set (kernel: sched-design-CFS.rst,
    sched-bwc.rst, cgroup-v2.rst).
    """

    controllers = ("cpu", "cpuacct")
    unified_controllers = ("cpu",)
    resource = "cpus"

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._times: dict[ContainerID, CpuTimes] = {}

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Writes the amounts that are given. Raises ContainerError for a quota below that of a cgroup inside, on v1.

        It does so for some milliseconds more when that is gone: it still is among those that the kernel looks at
        (tg_cfs_schedulable_down and sched_release_group in kernel/sched/core.c), and nothing tells when it is not.
        """
        deadline = time.monotonic() + _RELEASED
        for pause in cgroup.pauses():
            try:
                await super().update(container_id, resources, limits)
            except OSError as error:
                if error.errno != errno.EINVAL or self.unified or time.monotonic() > deadline:
                    raise
            else:
                return
            self._refuse_less_than_inside(container_id, self._limit(resources, limits))
            await asyncio.sleep(pause)

    def _refuse_less_than_inside(self, container_id: ContainerID, cpus: float | None) -> None:
        group = self.group(container_id)
        if group is None or cpus is None:
            return
        for inside in cgroup.subtree(group)[:-1]:
            other = 0
            with suppress(FileNotFoundError):
                other = cgroup.read_int(inside, "cpu.cfs_quota_us") or 0
            if other > (quota(cpus) or other):
                raise ContainerError(f"container {container_id} cannot have {cpus} cpus: {inside} has {other / PERIOD}")

    async def cleanup(self, container_id: ContainerID) -> None:
        """Also forgets the times."""
        await super().cleanup(container_id)
        self._times.pop(container_id, None)

    def apply(
        self, container_id: ContainerID, groups: tuple[str, ...], resources: Resources, limits: Resources
    ) -> None:
        """Writes the share, and the quota if there is to be one."""
        if resources.cpus is not None:
            low = resources.cpus_revocable and self.flags.revocable_cpu_low_priority
            self._set_share(groups[0], resources.cpus, low=low)
        limit = self._limit(resources, limits)
        if limit is not None:
            self._set_quota(groups[0], quota(limit))

    def _limit(self, resources: Resources, limits: Resources) -> float | None:
        return resources.cpus if limits.cpus is None and self.flags.cgroups_enable_cfs else limits.cpus

    def _set_share(self, group: str, cpus: float, *, low: bool) -> None:
        if self.unified:
            cgroup.write(group, "cpu.weight", weight(cpus, low=low))
        else:
            cgroup.write(group, "cpu.shares", shares(cpus, low=low))

    def _set_quota(self, group: str, microseconds: int | None) -> None:
        if self.unified:
            cgroup.write(group, "cpu.max", f"{'max' if microseconds is None else microseconds} {PERIOD}")
        else:
            cgroup.write(group, "cpu.cfs_quota_us", -1 if microseconds is None else microseconds)

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """Reads the times, and how often the container was throttled; counts its tasks if that is asked for."""
        if self.unified:
            statistics = _measure_unified(groups[0])
        else:
            times = self._times.get(container_id, CpuTimes()).split(*_read_times(groups[-1]))
            self._times[container_id] = times
            statistics = _measure(groups[0], times)
        if not self.flags.cgroups_cpu_enable_pids_and_tids_count:
            return statistics
        return replace(
            statistics,
            processes=len(cgroup.processes(groups[-1], recursive=True)),
            threads=cgroup.count_threads(groups[-1]),
        )


def _read_times(group: str) -> tuple[int, int, int]:
    """Nanoseconds: all that were used, and samples of those in user mode and in the kernel.

    cpuacct.stat has the latter two as well, but in ticks of 10 ms.
    """
    total, user, system = (
        cgroup.read_int(group, f"cpuacct.{name}") or 0 for name in ("usage", "usage_user", "usage_sys")
    )
    return total, user, system


def _measure(group: str, times: CpuTimes) -> ResourceStatistics:
    statistics = cgroup.read_keyed(group, "cpu.stat")
    limit = cgroup.read_int(group, "cpu.cfs_quota_us")
    return ResourceStatistics(
        cpus_user_time_secs=times.user / 1e9,
        cpus_system_time_secs=times.system / 1e9,
        cpus_soft_limit=(cgroup.read_int(group, "cpu.shares") or 0) / SHARES_PER_CPU,
        cpus_limit=None if limit is None or limit < 0 else limit / PERIOD,
        cpus_nr_periods=statistics["nr_periods"],
        cpus_nr_throttled=statistics["nr_throttled"],
        cpus_throttled_time_secs=statistics["throttled_time"] / 1e9,
    )


def _measure_unified(group: str) -> ResourceStatistics:
    statistics = cgroup.read_keyed(group, "cpu.stat")
    limit, period = cgroup.read(group, "cpu.max").split()
    return ResourceStatistics(
        cpus_user_time_secs=statistics["user_usec"] / 1e6,
        cpus_system_time_secs=statistics["system_usec"] / 1e6,
        cpus_soft_limit=(cgroup.read_int(group, "cpu.weight") or 0) / WEIGHT_PER_CPU,
        cpus_limit=None if limit == "max" else int(limit) / int(period),
        cpus_nr_periods=statistics["nr_periods"],
        cpus_nr_throttled=statistics["nr_throttled"],
        cpus_throttled_time_secs=statistics["throttled_usec"] / 1e6,
    )
