"""The control files of the cpu controller of both versions.

Of v1, times are in the controller cpuacct, which may have cgroups of its own. Source: the kernel's
sched-design-CFS.rst, sched-bwc.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import math

from mesocosm.dataclass import dataclass
from mesocosm.linux.cgroup import files

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


class Cpu:
    """Cgroup v1. Methods raise OSError."""

    def set_share(self, group: str, cpus: float, *, low: bool = False) -> None:
        """Sets the part of the machine that the cgroup has when others want it, too."""
        files.write(group, "cpu.shares", shares(cpus, low=low))

    def set_quota(self, group: str, cpus: float) -> None:
        """Sets how many CPUs it may use at most; infinite: any number."""
        microseconds = quota(cpus)
        files.write(group, "cpu.cfs_quota_us", -1 if microseconds is None else microseconds)

    def measure(self, group: str, accounting: str, earlier: CpuTimes) -> tuple[CpuTimes, dict[str, float | int | None]]:
        """The times, which were `earlier` before, and the rest by its names in ResourceStatistics, less `cpus_`.

        `accounting` is the cgroup that has the times; cpuacct.stat has their parts as well, but in ticks of 10 ms.
        """
        total, user = (files.read_int(accounting, name) or 0 for name in ("cpuacct.usage", "cpuacct.usage_user"))
        times = earlier.split(total, user, max(0, total - user))
        statistics = files.read_keyed(group, "cpu.stat")
        limit = files.read_int(group, "cpu.cfs_quota_us")
        return times, {
            "user_time_secs": times.user / 1e9,
            "system_time_secs": times.system / 1e9,
            "soft_limit": (files.read_int(group, "cpu.shares") or 0) / SHARES_PER_CPU,
            "limit": None if limit is None or limit < 0 else limit / PERIOD,
            "nr_periods": statistics["nr_periods"],
            "nr_throttled": statistics["nr_throttled"],
            "throttled_time_secs": statistics["throttled_time"] / 1e9,
        }


class UnifiedCpu(Cpu):
    """The same for cgroup v2, which measures both times exactly."""

    def set_share(self, group: str, cpus: float, *, low: bool = False) -> None:
        """Sets the part of the machine that the cgroup has when others want it, too."""
        files.write(group, "cpu.weight", weight(cpus, low=low))

    def set_quota(self, group: str, cpus: float) -> None:
        """Sets how many CPUs it may use at most; infinite: any number."""
        microseconds = quota(cpus)
        files.write(group, "cpu.max", f"{'max' if microseconds is None else microseconds} {PERIOD}")

    def measure(self, group: str, accounting: str, earlier: CpuTimes) -> tuple[CpuTimes, dict[str, float | int | None]]:
        """The times, and the rest by its names in ResourceStatistics, less `cpus_`."""
        statistics = files.read_keyed(group, "cpu.stat")
        limit, period = files.read(group, "cpu.max").split()
        return CpuTimes(statistics["user_usec"] * 1000, statistics["system_usec"] * 1000), {
            "user_time_secs": statistics["user_usec"] / 1e6,
            "system_time_secs": statistics["system_usec"] / 1e6,
            "soft_limit": (files.read_int(group, "cpu.weight") or 0) / WEIGHT_PER_CPU,
            "limit": None if limit == "max" else int(limit) / int(period),
            "nr_periods": statistics["nr_periods"],
            "nr_throttled": statistics["nr_throttled"],
            "throttled_time_secs": statistics["throttled_usec"] / 1e6,
        }
