"""What the whole machine uses, next to what its containers do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil

LOOPBACK = "lo"


def machine_statistics(disk: Path) -> dict[str, Any]:
    """Counters since the boot, and amounts of now; bytes and seconds. The space is that where `disk` is. It blocks.

    What the system does not tell is left out.
    """
    memory = psutil.virtual_memory()
    space = psutil.disk_usage(str(disk))
    return {
        "timestamp": time.time(),
        "cpus": os.cpu_count(),
        "cpu_busy_secs": _busy(),
        "load": os.getloadavg(),
        "mem_total_bytes": memory.total,
        "mem_used_bytes": memory.total - memory.available,
        "processes": len(psutil.pids()),
        "disk_total_bytes": space.total,
        "disk_used_bytes": space.used,
        **_disk_traffic(),
        **_network_traffic(),
    }


def _busy() -> float:
    """Seconds that CPUs have worked, all together. Guests of virtual machines are in `user` (proc(5))."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def _disk_traffic() -> dict[str, int]:
    counters = psutil.disk_io_counters()
    if counters is None:
        return {}
    return {"disk_read_bytes": counters.read_bytes, "disk_written_bytes": counters.write_bytes}


def _network_traffic() -> dict[str, int]:
    """That of all interfaces but the loopback one."""
    counters = [each for name, each in psutil.net_io_counters(pernic=True).items() if name != LOOPBACK]
    return {
        "net_rx_bytes": sum(each.bytes_recv for each in counters),
        "net_tx_bytes": sum(each.bytes_sent for each in counters),
    }
