"""`cgroups/cpuset`: a cgroup in which a container can be bound to CPUs and memory nodes."""

from __future__ import annotations

from mesocosm.isolators.cgroups.base import CgroupIsolator


class CpusetIsolator(CgroupIsolator):
    """Makes the cgroup, with the CPUs and nodes of the one above (cgroup-v1/cpusets.rst, cgroup-v2.rst).

    The operator writes others, to it or to that of all containers.
    """

    controllers = ("cpuset",)
    unified_controllers = ("cpuset",)
