"""`posix/cpu`: the CPU time that the processes of a container used."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil

from mesocosm.isolators.posix.base import PosixIsolator
from mesocosm.statistics import ResourceStatistics


class PosixCpuIsolator(PosixIsolator):
    """Reports CPU time, processes and threads."""

    def measure(self, processes: Iterable[psutil.Process]) -> ResourceStatistics:
        """The times of all, and of their children that ended, where the system tells those."""
        user = system = 0.0
        count = threads = 0
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                times = process.cpu_times()
                threads += process.num_threads()
                # With those that ended, lest the sum fall when one does.
                user += times.user + times.children_user
                system += times.system + times.children_system
                count += 1
        return ResourceStatistics(
            cpus_user_time_secs=user, cpus_system_time_secs=system, processes=count, threads=threads
        )
