"""What cgroups tell by events: of memory that ran out, and of memory pressure."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress

from mesocosm.linux.cgroup import files
from mesocosm.linux.poll import ChangeWatcher

PRESSURE_LEVELS = ("low", "medium", "critical")
_GONE = frozenset({errno.ENOENT, errno.ENODEV})


def listen(group: str, name: str, argument: str = "") -> int:
    """An eventfd(2) that counts the events of a control file of cgroup v1 (cgroups.rst, 2.4). Raises OSError.

    It is closed to end that, and is signalled as well when the group is removed.
    """
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{group}/{name}", os.O_RDONLY)
        try:
            files.write(group, "cgroup.event_control", f"{eventfd} {control} {argument}".rstrip())
        finally:
            os.close(control)
    except OSError:
        os.close(eventfd)
        raise
    return eventfd


def count(eventfd: int) -> int:
    """How often a non-blocking eventfd was signalled since it was last asked. Raises OSError."""
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


class OomListener:
    """Tells when a cgroup ran out of memory because of its own limit, not that of a cgroup above or of the machine.

    `callback` is called when that may have happened. What happened before this listener counts too, beyond `known`
    earlier times.
    """

    def __init__(self, group: str, callback: Callable[[], None], known: int = 0) -> None:
        self._group = group
        self._known = known
        self._loop = asyncio.get_running_loop()
        self._eventfd = listen(group, "memory.oom_control")
        self._loop.add_reader(self._eventfd, callback)

    @staticmethod
    def times(group: str) -> int:
        """How many processes in the cgroup were killed because memory, whoever's, had run out. Raises OSError."""
        return files.read_keyed(group, "memory.oom_control")["oom_kill"]  # Linux 4.13.

    def happened(self) -> bool:
        """Whether it happened, be it that `callback` has not been called yet. Raises OSError."""
        signalled = count(self._eventfd) > 0  # The kernel does that before it kills, so before the exit is seen.
        try:
            return _failures(self._group) > 0 and (signalled or self.times(self._group) > self._known)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return False

    def close(self) -> None:
        """Ends the listening."""
        self._loop.remove_reader(self._eventfd)
        os.close(self._eventfd)


def _failures(group: str) -> int:
    """How often the limit of the cgroup itself, for memory or memory and swap, was in the way."""
    failures = files.read_int(group, "memory.failcnt") or 0
    with suppress(FileNotFoundError):  # Without swap accounting.
        failures += files.read_int(group, "memory.memsw.failcnt") or 0
    return failures


class UnifiedOomListener:
    """The same for cgroup v2, where one watcher of changes serves many listeners."""

    def __init__(self, group: str, callback: Callable[[], None], changes: ChangeWatcher, known: int = 0) -> None:
        self._group = group
        self._known = known
        self._changes = changes
        self._watch = changes.add(f"{group}/memory.events.local", lambda _: callback())

    @staticmethod
    def times(group: str) -> int:
        """How often memory could not be had within the limit of the cgroup itself. Raises OSError."""
        return files.read_keyed(group, "memory.events.local")["oom"]  # Linux 5.2.

    def happened(self) -> bool:
        """Whether it happened, be it that `callback` has not been called yet. Raises OSError."""
        try:
            return self.times(self._group) > self._known
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return False

    def close(self) -> None:
        """Ends the listening."""
        self._changes.remove(self._watch)


class PressureCounters:
    """Counts the memory pressure events of a cgroup of v1, by level (memory.rst, 11).

    The kernel counts in the eventfds, which are read only when somebody asks.
    """

    def __init__(self, group: str) -> None:
        self._eventfds: dict[str, int] = {}
        self._counts = dict.fromkeys(PRESSURE_LEVELS, 0)
        try:
            for level in PRESSURE_LEVELS:
                self._eventfds[level] = listen(group, "memory.pressure_level", level)
        except OSError:
            self.close()
            raise

    def read(self) -> dict[str, int]:
        """The events of each of `PRESSURE_LEVELS` so far. Raises OSError."""
        for level, eventfd in self._eventfds.items():
            self._counts[level] += count(eventfd)
        return dict(self._counts)

    def close(self) -> None:
        """Ends the counting."""
        while self._eventfds:
            os.close(self._eventfds.popitem()[1])


def stall_times(group: str, name: str) -> dict[str, int]:
    """Microseconds for which `some` and `full`, that is all, processes waited (psi.rst). Raises OSError.

    EOPNOTSUPP where the kernel was started without `psi=1`.
    """
    return parse_stall_times(files.read(group, name))


def parse_stall_times(text: str) -> dict[str, int]:
    """The totals in the text of a pressure file. Raises ValueError."""
    return {line.split(" ", 1)[0]: int(line.rpartition("total=")[2]) for line in text.splitlines()}
