"""`cgroups/cpu`: the share of the CPU that a container gets, the time it may use at most, and the time it used."""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import suppress
from typing import Any

from mesocosm.container import ContainerID, Resources
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.linux import cgroup
from mesocosm.linux.cgroup.cpu import PERIOD, Cpu, CpuTimes, UnifiedCpu, quota
from mesocosm.statistics import ResourceStatistics

_RELEASED = 5.0
"""Seconds in which the kernel forgets a cgroup that was removed, even where it has much else to do."""


class CpuIsolator(CgroupIsolator):
    """Weighs containers by `resources.cpus` when they compete, and throttles them at `limits.cpus`.

    Without a limit that is the request too, if the flag cgroups_enable_cfs is set.
    """

    controllers = ("cpu", "cpuacct")
    unified_controllers = ("cpu",)
    resource = "cpus"

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._cpu = UnifiedCpu() if self.unified else Cpu()
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
            self._cpu.set_share(groups[0], resources.cpus, low=low)
        limit = self._limit(resources, limits)
        if limit is not None:
            self._cpu.set_quota(groups[0], limit)

    def _limit(self, resources: Resources, limits: Resources) -> float | None:
        return resources.cpus if limits.cpus is None and self.flags.cgroups_enable_cfs else limits.cpus

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """Reads the times, and how often the container was throttled; counts its tasks if that is asked for."""
        earlier = self._times.get(container_id, CpuTimes())
        self._times[container_id], amounts = self._cpu.measure(groups[0], groups[-1], earlier)
        counts: dict[str, Any] = {f"cpus_{name}": amount for name, amount in amounts.items()}
        if self.flags.cgroups_cpu_enable_pids_and_tids_count:
            counts["processes"] = len(cgroup.processes(groups[-1], recursive=True))
            counts["threads"] = cgroup.count_threads(groups[-1])
        return ResourceStatistics(**counts)
