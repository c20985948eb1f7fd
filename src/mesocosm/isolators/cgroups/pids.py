"""`cgroups/pids`: how many tasks, that is processes and threads, a container may have."""

from __future__ import annotations

import math

from mesocosm.container import ContainerID, Resources
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.linux import cgroup
from mesocosm.statistics import ResourceStatistics


class PidsIsolator(CgroupIsolator):
    """Limits the tasks of a container to `limits.pids`, else `resources.pids`; none are refused without (pids.rst).

    A fork beyond the limit fails in the container with EAGAIN, and the container goes on.
    """

    controllers = ("pids",)
    unified_controllers = ("pids",)
    resource = "pids"

    def apply(
        self, container_id: ContainerID, groups: tuple[str, ...], resources: Resources, limits: Resources
    ) -> None:
        """Writes the limit."""
        maximum = resources.pids if limits.pids is None else limits.pids
        if maximum is not None:
            cgroup.write(groups[0], "pids.max", "max" if math.isinf(maximum) else maximum)

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """Counts processes, and tasks, as the kernel counts them for the limit."""
        return ResourceStatistics(
            processes=len(cgroup.processes(groups[0], recursive=True)),
            threads=cgroup.read_int(groups[0], "pids.current"),
        )
