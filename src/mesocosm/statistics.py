"""What a container uses, and the limits that it runs into.

Names follow the messages of Mesos (`mesos.proto`); units are bytes and seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesocosm.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Limitation:
    """A limit that a container ran into, for which it is destroyed. `reason` is a `TaskStatus.Reason` of Mesos.

    `resource` is what it ran out of, if it was that: `ranges` are the numbers that it took of a resource of such, with
    both ends, and `amount` is how many bytes it used.
    """

    reason: str
    message: str
    resource: str | None = None
    ranges: tuple[tuple[int, int], ...] = ()
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """What is used and may be used of a persistent volume or, without an `id`, of the sandbox; None: nobody knows."""

    id: str | None = None
    principal: str | None = None
    limit_bytes: int | None = None
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PerfStatistics:
    """What was counted from `timestamp` on for `duration` seconds, by the fields of Mesos's `PerfStatistics`."""

    timestamp: float
    duration: float
    counts: Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class BlkioStatistics:
    """What was done with a block device, by the numbers of `device`, or with all of them where that is None.

    Operations and bytes are by the names of `CgroupInfo.Blkio.Operation`.
    """

    device: tuple[int, int] | None
    io_serviced: Mapping[str, int]
    io_service_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ResourceStatistics:
    """What a container uses and may use: the fields of Mesos's `ResourceStatistics`, None where nobody measures."""

    timestamp: float | None = None
    processes: int | None = None
    threads: int | None = None
    cpus_user_time_secs: float | None = None
    cpus_system_time_secs: float | None = None
    cpus_limit: float | None = None
    cpus_soft_limit: float | None = None
    cpus_nr_periods: int | None = None
    cpus_nr_throttled: int | None = None
    cpus_throttled_time_secs: float | None = None
    mem_total_bytes: int | None = None
    mem_total_memsw_bytes: int | None = None
    mem_kmem_usage_bytes: int | None = None
    mem_kmem_tcp_usage_bytes: int | None = None
    mem_limit_bytes: int | None = None
    mem_soft_limit_bytes: int | None = None
    mem_maximum_bytes: int | None = None
    mem_file_bytes: int | None = None
    mem_anon_bytes: int | None = None
    mem_cache_bytes: int | None = None
    mem_rss_bytes: int | None = None
    mem_mapped_file_bytes: int | None = None
    mem_swap_bytes: int | None = None
    mem_unevictable_bytes: int | None = None
    mem_low_pressure_counter: int | None = None
    mem_medium_pressure_counter: int | None = None
    mem_critical_pressure_counter: int | None = None
    blkio_statistics: tuple[BlkioStatistics, ...] | None = None
    perf: PerfStatistics | None = None
    net_rx_packets: int | None = None
    net_rx_bytes: int | None = None
    net_rx_errors: int | None = None
    net_rx_dropped: int | None = None
    net_tx_packets: int | None = None
    net_tx_bytes: int | None = None
    net_tx_errors: int | None = None
    net_tx_dropped: int | None = None
    disk_limit_bytes: int | None = None
    disk_used_bytes: int | None = None
    disk_statistics: tuple[DiskStatistics, ...] | None = None
