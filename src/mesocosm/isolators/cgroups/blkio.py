"""`cgroups/blkio`: how much a container reads from block devices, and writes to them."""

from __future__ import annotations

import asyncio

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import cgroup
from mesocosm.linux.cgroup.blkio import account, served, served_unified
from mesocosm.statistics import BlkioStatistics, ResourceStatistics


class BlkioIsolator(CgroupIsolator):
    """Counts bytes and operations by device, those of nested containers too; limits nothing.

    The operator writes limits and weights (kernel: cgroup-v1/blkio-controller.rst, cgroup-v2.rst).
    """

    controllers = ("blkio",)
    unified_controllers = ("io",)

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._accounted: frozenset[str] = frozenset()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Also has the disks count that there are by now, which they may not do by themselves on v1."""
        if not self.unified:
            self._accounted = await asyncio.to_thread(account, self.hierarchies[0].path, self._accounted)
        return await super().prepare(container_id, config)

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """Reads what was counted."""
        found = served_unified(groups[0]) if self.unified else served(groups[0])
        return ResourceStatistics(
            blkio_statistics=tuple(BlkioStatistics(each.device, each.operations, each.bytes) for each in found)
        )
