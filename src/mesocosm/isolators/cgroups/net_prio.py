"""`cgroups/net_prio`: a cgroup in which the packets of a container can be given a priority, by interface."""

from __future__ import annotations

from mesocosm.isolators.cgroups.base import CgroupIsolator


class NetPrioIsolator(CgroupIsolator):
    """Makes the cgroup, with the priorities of the one above. The operator writes others (cgroup-v1/net_prio.rst)."""

    controllers = ("net_prio",)
    unified_controllers = None
