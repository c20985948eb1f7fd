"""`posix/mem`: the memory that the processes of a container hold."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil

from mesocosm.isolators.posix.base import PosixIsolator
from mesocosm.statistics import ResourceStatistics


class PosixMemIsolator(PosixIsolator):
    """Reports resident memory. What processes share is counted for each of them."""

    def measure(self, processes: Iterable[psutil.Process]) -> ResourceStatistics:
        """The resident memory of all."""
        resident = 0
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                resident += process.memory_info().rss
        return ResourceStatistics(mem_rss_bytes=resident)
