"""`cgroups/hugetlb`: a cgroup in which the huge pages of a container can be limited."""

from __future__ import annotations

from mesocosm.isolators.cgroups.base import CgroupIsolator


class HugetlbIsolator(CgroupIsolator):
    """Makes the cgroup. The operator writes limits, to it or to that of all containers (hugetlb.rst, cgroup-v2.rst)."""

    controllers = ("hugetlb",)
    unified_controllers = ("hugetlb",)
