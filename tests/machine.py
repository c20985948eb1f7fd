"""What a test may leave behind on the machine: nothing. Snapshots of the machine, and the difference of two.

Other things happen on a machine at the same time, so each test has a name that occurs nowhere else. It is in the
test's directory, cgroups and environment, and thereby in what the kernel shows of nearly all that the test makes.
"""

from __future__ import annotations

import errno
import functools
import gc
import os
import re
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

VARIABLE = "MESOCOSM_TEST"
"""The environment variable that holds the name of the running test."""

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of <linux/sched.h>.
# What ends while it is looked at (EINVAL: the mounts of a process), and what has more privileges than this process.
_UNSEEN = (errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.EACCES, errno.EPERM)
_COUNTERS = re.compile(r" ?\[\d+:\d+]")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which changes count as those of a test: what bears its `name`, and everything on an `exclusive` machine."""

    name: str
    runtime_dir: Path
    exclusive: bool = False

    def covers(self, text: str) -> bool:
        return self.exclusive or self.name in text


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """A process, named so that another one with its pid differs."""

    pid: int
    start_time: int
    parent: int = field(compare=False)
    command: str = field(compare=False)
    zombie: bool = field(compare=False)

    def __str__(self) -> str:
        return f"{self.pid} {self.command}{' <defunct>' if self.zombie else ''}"


@dataclass(frozen=True, slots=True)
class Machine:
    """What there was on the machine at one moment."""

    processes: frozenset[Process]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    mounts: frozenset[str]
    interfaces: frozenset[str]
    rules: frozenset[str]
    descriptors: frozenset[str]
    threads: frozenset[str]
    directories: frozenset[str]

    @classmethod
    def snapshot(cls, scope: Scope) -> Machine:
        """The machine now, as far as `scope` covers it."""
        processes = frozenset(_processes(scope))
        return cls(
            processes=processes,
            namespaces=frozenset(_namespaces(processes)),
            cgroups=frozenset(_cgroups(scope)),
            mounts=frozenset(filter(scope.covers, _lines("/proc/self/mountinfo"))),
            interfaces=frozenset(filter(scope.covers, _names("/sys/class/net"))),
            rules=frozenset(_rules() if scope.exclusive else ()),
            descriptors=frozenset(_descriptors()),
            threads=frozenset(f"{thread.native_id} {thread.name}" for thread in threading.enumerate()),
            directories=frozenset(_directories(scope)),
        )


# A process or descriptor of an earlier test may end at any time. What is listed here only a test would take away.
_LASTING = ("mounts", "interfaces", "rules")


def difference(before: Machine, after: Machine) -> list[str]:
    """What `after` has and `before` has not, and what is missing of the things that last: one line each."""
    lines = []
    for kind in (entry.name for entry in fields(Machine)):
        old, new = getattr(before, kind), getattr(after, kind)
        lines += [f"{kind}: left {item}" for item in sorted(new - old)]
        lines += [f"{kind}: lost {item}" for item in sorted(old - new) if kind in _LASTING]
    return lines


def settle(before: Machine, snapshot: Callable[[], Machine], timeout: float = 5.0) -> Machine:
    """The machine once the processes that are about to end have done so, for which it waits up to `timeout`."""
    deadline = time.monotonic() + timeout
    after = snapshot()
    while (remaining := after.processes - before.processes) and time.monotonic() < deadline:
        for process in remaining:
            await_end(process.pid, deadline, zombie=process.zombie)
        after = snapshot()
    if difference(before, after):
        gc.collect()  # Descriptors may still belong to unreachable objects.
        after = snapshot()
    return after


def await_end(pid: int, deadline: float, *, zombie: bool = False) -> None:
    """Waits until a process has exited or, if it is a `zombie`, been reaped (which is seen from Linux 6.9 on)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, 0 if zombie else select.POLLIN)
    poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    os.close(pidfd)


def mount_points() -> list[Path]:
    """Where something is mounted, in the order in which it was."""
    return [Path(line.split()[4]) for line in _lines("/proc/self/mountinfo")]


def hierarchies() -> list[Path]:
    """Where each cgroup hierarchy is mounted."""
    mounts = (line.split() for line in _lines("/proc/self/mountinfo"))
    by_device = {entry[2]: Path(entry[4]) for entry in mounts if entry[entry.index("-") + 1] in ("cgroup", "cgroup2")}
    return list(by_device.values())


def descendants(processes: Iterable[Process]) -> set[int]:
    """The pids of this process and of those of `processes` that descend from it."""
    found = {os.getpid()}
    while more := {process.pid for process in processes if process.parent in found} - found:
        found |= more
    return found


def _processes(scope: Scope) -> Iterator[Process]:
    """Those that descend from this one, those that bear the test's name and, if `exclusive`, those set apart."""
    processes = [process for process in map(_process, _numbers("/proc")) if process]
    own = descendants(processes)
    home = _links(os.getpid())

    def counts(process: Process) -> bool:
        if process.pid in own or process.zombie:
            return process.pid in own  # A zombie shows nothing but its parent, whose business it is to reap it.
        return _bears(process.pid, scope.name) or (scope.exclusive and bool(_links(process.pid) - home))

    return filter(counts, processes)


def _process(pid: int) -> Process | None:
    """The process `pid`; None if it is gone, or a thread of the kernel."""
    name, _, rest = _read(f"/proc/{pid}/stat").rpartition(")")
    values = rest.split()
    if not values or int(values[6]) & _KERNEL_THREAD:
        return None
    command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip() or name.partition("(")[2]
    return Process(pid, int(values[19]), int(values[1]), command, values[0] in "ZX")


def _bears(pid: int, name: str) -> bool:
    """Whether what the kernel shows of a process has the test's name in it.

    A container has an environment of its own, but its cgroup, its mounts, its directory or its output tell.
    """
    files = ["environ", "cmdline", "cgroup"]
    if _link(f"/proc/{pid}/ns/mnt") not in ("", _link("/proc/self/ns/mnt")):
        files.append("mountinfo")  # A mount that a test left on the host is in everybody's.
    return any(name in _read(f"/proc/{pid}/{file}") for file in files) or any(
        name in _link(f"/proc/{pid}/{link}") for link in ("cwd", "root", "fd/1", "fd/2")
    )


def _namespaces(processes: frozenset[Process]) -> Iterator[str]:
    """The namespaces of `processes`, and of each thread of this process, which may have moved."""
    for process in processes:
        yield from _links(process.pid)
    for thread in _numbers("/proc/self/task"):
        yield from _links(thread)


def _links(pid: int) -> frozenset[str]:
    """The namespaces of one process or thread. Empty if that is gone."""
    return frozenset(_link(f"/proc/{pid}/ns/{name}") for name in _namespace_names()) - {""}


@functools.cache
def _namespace_names() -> list[str]:
    return _names("/proc/self/ns")


def _cgroups(scope: Scope) -> Iterator[str]:
    """The cgroups below the test's root in each hierarchy, or all; the root itself is its fixture's to remove."""
    for hierarchy in hierarchies():
        for top in filter(os.DirEntry.is_dir, os.scandir(hierarchy)):
            if scope.covers(top.name):
                yield from (path for path, _, _ in os.walk(top.path) if path != str(hierarchy / scope.name))


def _rules() -> Iterator[str]:
    """The rules of the packet filter, each after its table and without its counters. Empty without iptables."""
    if (command := shutil.which("iptables-save")) is None:
        return
    table = ""
    output = subprocess.run([command], capture_output=True, text=True, check=False).stdout
    for line in output.splitlines():
        if line.startswith("*"):
            table = line
        elif not line.startswith("#"):
            yield f"{table} {_COUNTERS.sub('', line)}"


def _descriptors() -> Iterator[str]:
    """The open files of this process."""
    for number in _names("/proc/self/fd"):
        if target := _link(f"/proc/self/fd/{number}"):
            yield f"{number} {target}"


def _directories(scope: Scope) -> Iterator[str]:
    """What lies where programs put their temporary things, and the containers in the test's runtime directory.

    Not the directory of this run of the test itself, which outlives it: a second run has another one.
    """
    places = (tempfile.gettempdir(), "/dev/shm", "/run")
    for place in filter(os.path.isdir, places):
        found = (entry for entry in os.scandir(place) if entry.name != scope.name)
        yield from (entry.path for entry in found if scope.covers(entry.name))
    yield from map(str, scope.runtime_dir.glob("containers/*"))


def _names(directory: str) -> list[str]:
    return os.listdir(directory)


def _numbers(directory: str) -> list[int]:
    return [int(name) for name in _names(directory) if name.isdecimal()]


def _lines(path: str) -> list[str]:
    return _read(path).splitlines()


def _read(path: str) -> str:
    """The content of a file of /proc; empty if the process is gone or may not be looked at."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="replace")
    except OSError as error:
        return _unseen(error)


def _link(path: str) -> str:
    """The target of a link of /proc; empty if that is gone or may not be looked at."""
    try:
        return os.readlink(path)
    except OSError as error:
        return _unseen(error)


def _unseen(error: OSError) -> str:
    """Nothing, in the place of what cannot be looked at. Raises any other error again."""
    if error.errno not in _UNSEEN:
        raise error
    return ""
