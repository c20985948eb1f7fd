"""The control files of the memory controller of both versions (kernel: cgroup-v1/memory.rst, cgroup-v2.rst)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import ClassVar

from mesocosm.linux.cgroup import files

MEMORY_AND_SWAP = "memory.memsw.limit_in_bytes"
# A cgroup of v1 without a limit has a greater one than this: LONG_MAX, rounded down to whole pages.
_UNLIMITED = 1 << 62


class Memory:
    """Cgroup v1. Amounts are bytes, None for no limit and where the kernel has no such file. Methods raise OSError."""

    _request: ClassVar[str] = "memory.soft_limit_in_bytes"
    _limit: ClassVar[str] = "memory.limit_in_bytes"
    _maximum: ClassVar[str] = "memory.max_usage_in_bytes"

    def request(self, group: str) -> int | None:
        """How much the cgroup keeps when memory is short."""
        return _amount(group, self._request) or None

    def limit(self, group: str) -> int | None:
        """How much it may use."""
        return _amount(group, self._limit)

    def maximum(self, group: str) -> int | None:
        """How much it ever used."""
        return _amount(group, self._maximum)

    def set_request(self, group: str, amount: int) -> None:
        """Sets `request`."""
        files.write(group, self._request, amount)

    def set_limit(self, group: str, amount: int | None, *, swap: bool, lower: bool) -> None:
        """Sets `limit`, to a `lower` one or not; with `swap`, memory and swap together have it too."""
        names = (self._limit, *((MEMORY_AND_SWAP,) if swap else ()))
        # The kernel refuses a limit of memory alone that is greater than that of both (MESOS-7237).
        for name in names if lower else reversed(names):
            files.write(group, name, -1 if amount is None else amount)

    def raise_limit(self, group: str, amount: int | None) -> None:
        """Sets `limit` if that is more than it is. Of swap, as much can be used as before."""
        present = self.limit(group)
        if present is None or (amount is not None and amount <= present):
            return
        both = _amount(group, MEMORY_AND_SWAP)
        if both is not None:  # There is no such file without swap accounting, nor on cgroup v2.
            files.write(group, MEMORY_AND_SWAP, -1 if amount is None else both + amount - present)
        self.set_limit(group, amount, swap=False, lower=False)

    def measure(self, group: str, *, swap: bool) -> dict[str, int | None]:
        """`usage`, `limit`, `request` and `maximum`, by such names."""
        return {
            **self.usage(group, swap=swap),
            "limit": self.limit(group),
            "soft_limit": self.request(group),
            "maximum": self.maximum(group),
        }

    def usage(self, group: str, *, swap: bool) -> dict[str, int | None]:
        """What it uses, under the names that Mesos has for it in ResourceStatistics, less `mem_` and `_bytes`.

        How much of memory and swap together is only told with `swap`.
        """
        statistics = files.read_keyed(group, "memory.stat")
        return {
            "total": files.read_int(group, "memory.usage_in_bytes"),
            **({"total_memsw": _amount(group, "memory.memsw.usage_in_bytes")} if swap else {}),
            "kmem_usage": _amount(group, "memory.kmem.usage_in_bytes"),
            "kmem_tcp_usage": _amount(group, "memory.kmem.tcp.usage_in_bytes"),
            "file": statistics["total_cache"],
            "cache": statistics["total_cache"],
            "anon": statistics["total_rss"],
            "rss": statistics["total_rss"],
            "mapped_file": statistics["total_mapped_file"],
            "swap": statistics.get("total_swap"),  # With swap accounting.
            "unevictable": statistics["total_unevictable"],
        }


class UnifiedMemory(Memory):
    """The same for cgroup v2."""

    _request = "memory.low"
    _limit = "memory.max"
    _maximum = "memory.peak"  # Linux 5.19.

    def set_limit(self, group: str, amount: int | None, *, swap: bool, lower: bool) -> None:
        """Sets `limit`; with `swap`, none of it can be swapped out, so that it holds for memory and swap together."""
        files.write(group, self._limit, "max" if amount is None else amount)
        if swap:
            with suppress(FileNotFoundError):  # A kernel without swap.
                files.write(group, "memory.swap.max", "max" if amount is None else 0)

    def usage(self, group: str, *, swap: bool) -> dict[str, int | None]:
        """What it uses, likewise."""
        statistics = files.read_keyed(group, "memory.stat")
        total, swapped = files.read_int(group, "memory.current"), _amount(group, "memory.swap.current")
        return {
            "total": total,
            **({"total_memsw": (total or 0) + (swapped or 0)} if swap else {}),
            "kmem_usage": statistics.get("kernel"),  # Linux 5.18.
            "kmem_tcp_usage": statistics["sock"],
            "file": statistics["file"],
            "cache": statistics["file"],
            "anon": statistics["anon"],
            "rss": statistics["anon"],
            "mapped_file": statistics["file_mapped"],
            "swap": swapped,
            "unevictable": statistics["unevictable"],
        }


def oom_score(request: int) -> int:
    """The oom_score_adj of a process (proc(5)) that is promised `request` bytes: the less, the more that is."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, 1000 - 1000 * request // total)


def _amount(group: str, name: str) -> int | None:
    try:
        amount = files.read_int(group, name)
    except FileNotFoundError:
        if not files.exists(group):
            raise
        return None
    return None if amount is None or amount > _UNLIMITED else amount
