"""Counting what happens in a cgroup: perf_event_open(2), by the names that perf-list(1) has for events."""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from mesocosm.linux.libc import system_call

# <linux/perf_event.h>
_HARDWARE, _SOFTWARE, _HARDWARE_CACHE = 0, 1, 3
_TIME_ENABLED, _TIME_RUNNING = 1, 2
_FLAG_PID_CGROUP, _FLAG_CLOEXEC = 4, 8
_READING = struct.Struct("=QQQ")

# Each is the number of its name.
_HARDWARE_EVENTS = (
    *("cycles", "instructions", "cache-references", "cache-misses", "branches", "branch-misses", "bus-cycles"),
    *("stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"),
)
_SOFTWARE_EVENTS = (
    *("cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults", "major-faults"),
    *("alignment-faults", "emulation-faults"),
)
_CACHES = ("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node")
_OPERATIONS = (("loads", "load-misses"), ("stores", "store-misses"), ("prefetches", "prefetch-misses"))
_ALIASES = {
    "cpu-cycles": "cycles",
    "branch-instructions": "branches",
    "idle-cycles-frontend": "stalled-cycles-frontend",
    "idle-cycles-backend": "stalled-cycles-backend",
    "faults": "page-faults",
    "cs": "context-switches",
    "migrations": "cpu-migrations",
}


class _Attributes(ctypes.Structure):
    """`struct perf_event_attr`, as far as it went in its first version."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("type", "size")),
        *((name, ctypes.c_uint64) for name in ("config", "sample_period", "sample_type", "read_format", "flags")),
        *((name, ctypes.c_uint32) for name in ("wakeup_events", "bp_type")),
        ("config1", ctypes.c_uint64),
    ]


_perf_event_open = system_call(
    "perf_event_open",
    {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331},
    ctypes.POINTER(_Attributes),
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_ulong,
)


@dataclass(frozen=True, slots=True)
class Event:
    """What can be counted, by its `name` in perf-list(1) and its numbers in the kernel."""

    name: str
    kind: int
    number: int


def _events() -> dict[str, Event]:
    found = [Event(name, _HARDWARE, number) for number, name in enumerate(_HARDWARE_EVENTS)]
    found += [Event(name, _SOFTWARE, number) for number, name in enumerate(_SOFTWARE_EVENTS)]
    for cache, operation, result in itertools.product(range(len(_CACHES)), range(len(_OPERATIONS)), range(2)):
        name = f"{_CACHES[cache]}-{_OPERATIONS[operation][result]}"
        found.append(Event(name, _HARDWARE_CACHE, cache | operation << 8 | result << 16))
    events = {event.name: event for event in found}
    return {**events, **{alias: events[name] for alias, name in _ALIASES.items()}}


EVENTS = _events()
"""All that this module knows, by their names, those that are equivalent included."""


def processors() -> list[int]:
    """The CPUs that are online, whether or not this process may use them. Raises OSError."""
    with open("/sys/devices/system/cpu/online") as file:
        ranges = (part.split("-") for part in file.read().strip().split(","))
    return [cpu for bounds in ranges for cpu in range(int(bounds[0]), int(bounds[-1]) + 1)]


class Counters:
    """Counts `events` in a cgroup and those below it, on every CPU, from now on. Raises OSError, and has none then."""

    def __init__(self, group: str, events: Iterable[Event]) -> None:
        self._descriptors: dict[Event, list[int]] = {}
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for event in events:
                self._descriptors[event] = []
                for cpu in processors():
                    self._descriptors[event].append(_open(event, directory, cpu))
        except OSError as error:
            self.close()
            raise OSError(error.errno, f"{error.strerror}, for {event.name}", group) from error
        finally:
            os.close(directory)

    def read(self) -> dict[Event, int]:
        """How often each has happened so far. Raises OSError.

        What was counted some of the time, as there are more events than the CPU has counters, is extrapolated.
        """
        return {event: sum(map(_read, descriptors)) for event, descriptors in self._descriptors.items()}

    def close(self) -> None:
        """Ends the counting."""
        while self._descriptors:
            for descriptor in self._descriptors.popitem()[1]:
                os.close(descriptor)


def _open(event: Event, directory: int, cpu: int) -> int:
    attributes = _Attributes(
        type=event.kind,
        size=ctypes.sizeof(_Attributes),
        config=event.number,
        read_format=_TIME_ENABLED | _TIME_RUNNING,
    )
    return _perf_event_open(attributes, directory, cpu, -1, _FLAG_PID_CGROUP | _FLAG_CLOEXEC)


def _read(descriptor: int) -> int:
    value, enabled, running = _READING.unpack(os.read(descriptor, _READING.size))
    return value * enabled // running if running else 0
