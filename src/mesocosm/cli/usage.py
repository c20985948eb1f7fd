"""What containers use: amounts of now, and rates between two looks at them."""

from __future__ import annotations

from mesocosm.cli.containers import Container, Overview
from mesocosm.cli.table import Column
from mesocosm.client import Json
from mesocosm.dataclass import dataclass
from mesocosm.units import round_size


def cpu_time(statistics: Json) -> float | None:
    """Seconds of CPU that were used; None where nobody measures."""
    user, system = (statistics.get(f"cpus_{kind}_time_secs") for kind in ("user", "system"))
    return None if user is None or system is None else user + system


def memory(statistics: Json) -> int | None:
    """Bytes of memory in use, as the limit counts them."""
    found: int | None = statistics.get("mem_total_bytes", statistics.get("mem_rss_bytes"))
    return found


def disk_traffic(statistics: Json) -> int | None:
    """Bytes that were read from and written to block devices."""
    blkio = statistics.get("blkio_statistics", {})
    totals = [
        operation["value"]
        for policy in ("throttling", "cfq")
        for device in blkio.get(policy, ())
        if "device" not in device
        for operation in device.get("io_service_bytes", ())
        if operation["op"] == "TOTAL"
    ]
    return max(totals) if totals else None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses: `cpu` in CPUs, traffic in bytes per second, the rest in bytes; None: nobody measures."""

    container: Container
    cpu: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    disk: int | None = None
    disk_limit: int | None = None
    disk_traffic: float | None = None
    received: float | None = None
    sent: float | None = None
    processes: int | None = None


def usages(earlier: Overview | None, later: Overview) -> list[Usage]:
    """Of the containers that run. Rates are there for those that were there at the `earlier` look, too."""
    before = {} if earlier is None else {each.id: each for each in earlier.containers}
    return [_usage(before.get(each.id), each) for each in later.containers if not each.has_ended]


def _usage(before: Container | None, container: Container) -> Usage:
    old, new = (
        {} if before is None or before.launched != container.launched else before.statistics,
        container.statistics,
    )
    elapsed = new.get("timestamp", 0.0) - old.get("timestamp", 0.0)

    return Usage(
        container,
        cpu=rate(cpu_time(old), cpu_time(new), elapsed),
        memory=memory(new),
        memory_limit=new.get("mem_limit_bytes"),
        disk=new.get("disk_used_bytes"),
        disk_limit=new.get("disk_limit_bytes"),
        disk_traffic=rate(disk_traffic(old), disk_traffic(new), elapsed),
        received=rate(old.get("net_rx_bytes"), new.get("net_rx_bytes"), elapsed),
        sent=rate(old.get("net_tx_bytes"), new.get("net_tx_bytes"), elapsed),
        processes=new.get("processes"),
    )


COLUMNS = (
    Column("container"),
    Column("cpu", ">"),
    Column("memory", ">", rank=1),
    Column("limit", ">", rank=6),
    Column("disk", ">", rank=4),
    Column("disk i/o", ">", rank=5),
    Column("received", ">", rank=2),
    Column("sent", ">", rank=3),
    Column("tasks", ">", rank=7),
)
"""Of a table of them, which `cells` fills."""


def cells(usage: Usage, name: str) -> tuple[str, ...]:
    """A line of such a table; what nobody measures is left empty."""
    return (
        name,
        "" if usage.cpu is None else f"{usage.cpu:.1%}",
        size_of(usage.memory),
        size_of(usage.memory_limit),
        size_of(usage.disk),
        rate_of(usage.disk_traffic),
        rate_of(usage.received),
        rate_of(usage.sent),
        "" if usage.processes is None else str(usage.processes),
    )


def size_of(amount: int | None) -> str:
    """Bytes for people; nothing where nobody measures."""
    return "" if amount is None else round_size(amount)


def rate_of(amount: float | None) -> str:
    """Bytes per second for people; nothing where nobody measures."""
    return "" if amount is None else f"{round_size(round(amount))}/s"


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """What a machine does: `cpu` in CPUs, traffic in bytes per second; None: it is not known, or not yet."""

    cpu: float | None = None
    read: float | None = None
    written: float | None = None
    received: float | None = None
    sent: float | None = None


def machine_usage(earlier: Overview | None, later: Overview) -> MachineUsage:
    """Between two looks at an agent."""
    old, new = {} if earlier is None else earlier.machine, later.machine
    elapsed = new.get("timestamp", 0.0) - old.get("timestamp", 0.0)
    names = ("cpu_busy_secs", "disk_read_bytes", "disk_written_bytes", "net_rx_bytes", "net_tx_bytes")
    return MachineUsage(*(rate(old.get(name), new.get(name), elapsed) for name in names))


def rate(was: float | None, now: float | None, elapsed: float) -> float | None:
    """How much a counter grew in a second; None where it was not read twice."""
    return None if was is None or now is None or elapsed <= 0 else max(now - was, 0) / elapsed
