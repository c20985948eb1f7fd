"""Processes: clone3(2), pidfds (pidfd_open(2)), and what /proc says of a process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Iterable
from functools import cache

from mesocosm.linux.libc import declare, system_call
from mesocosm.linux.namespaces import Namespace
from mesocosm.linux.prctl import set_name

CLONE_PIDFD = 0x00001000
CLONE_VFORK = 0x00004000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000
KEYCTL_JOIN_SESSION_KEYRING = 1
_HIGHEST_DESCRIPTOR = 0xFFFFFFFF


class _CloneArguments(ctypes.Structure):
    """`struct clone_args` of <linux/sched.h>, up to Linux 5.7."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size"),
            *("tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


_clone3 = system_call("clone3", 435, ctypes.POINTER(_CloneArguments), ctypes.c_size_t)
_close_range = system_call("close_range", 436, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)
_pidfd_getfd = system_call("pidfd_getfd", 438, ctypes.c_int, ctypes.c_int, ctypes.c_uint)
_keyctl = system_call("keyctl", {"x86_64": 250, "aarch64": 219}, ctypes.c_int, ctypes.c_char_p)
_sched_getcpu = declare("sched_getcpu", ctypes.c_int)


def clone_with_pidfd(namespaces: Namespace, *, cgroup: int | None = None, sibling: bool = False) -> tuple[int, int]:
    """clone3(2) of the calling process into new `namespaces`: 0 in the child; its pid and a pidfd in the parent.

    With `cgroup`, a descriptor of a directory of cgroup v2, the child starts there. A `sibling` is a child of the
    caller's parent. The caller must have one thread, and the child must not return from the function that called this.
    Raises OSError.
    """
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArguments(flags=int(namespaces) | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd))
    if sibling:
        arguments.flags |= CLONE_PARENT  # Takes the exit signal of the caller, and must be given none.
    else:
        arguments.exit_signal = signal.SIGCHLD
    if cgroup is not None:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    return _clone3(arguments, ctypes.sizeof(arguments)), pidfd.value


def clone_and_wait(*, sibling: bool = False) -> int:
    """clone3(2) of the calling process: 0 in the child; in the parent its pid, when it has exited. Raises OSError."""
    arguments = _CloneArguments(flags=CLONE_VFORK | CLONE_PARENT if sibling else CLONE_VFORK)
    arguments.exit_signal = 0 if sibling else signal.SIGCHLD
    return _clone3(arguments, ctypes.sizeof(arguments))


def pid_of(pidfd: int) -> int:
    """The pid of the process of a pidfd, in the pid namespace of /proc and not of the caller. Raises OSError."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def close_descriptors_except(kept: Iterable[int]) -> None:
    """Closes every descriptor but those in `kept` (close_range(2)). Raises OSError."""
    first = 0
    for number in (*sorted(kept), _HIGHEST_DESCRIPTOR):
        if first < number:
            _close_range(first, number - 1, 0)
        first = number + 1


def take_descriptor(pidfd: int, number: int) -> int:
    """pidfd_getfd(2): a copy of descriptor `number` of the process. Raises OSError."""
    return _pidfd_getfd(pidfd, number, 0)


def run_beside(pid: int) -> None:
    """Keeps the process `pid` off the CPU that the caller is on, if there are others; it has to allow that one itself.

    It would be woken there by what the caller sends it (a `sync` wake-up), and each would have half of the CPU. In a
    virtual machine the scheduler takes no other: one that sleeps counts as taken by the host.
    """
    with contextlib.suppress(OSError):  # It makes for speed, no more.
        if others := os.sched_getaffinity(pid) - {_sched_getcpu()}:
            os.sched_setaffinity(pid, others)


def join_new_keyring() -> None:
    """Leaves the session keyring for a new, empty one (session-keyring(7)). Raises OSError."""
    _keyctl(KEYCTL_JOIN_SESSION_KEYRING, None)


def set_title(title: str) -> None:
    """What ps(1) and top(1) show of the process from now on, in place of its arguments: its name and its command line.

    The kernel shows the memory that the arguments were in (proc_pid_cmdline(5)), so a title is cut to their length.
    """
    set_name(title)
    start, end = _argument_area()
    text = title.encode()[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


@cache
def _argument_area() -> tuple[int, int]:
    """Where the arguments of this process are, and of those forked from it."""
    with open("/proc/self/stat", "rb", buffering=0) as file:
        status = file.read()
    fields = status[status.rindex(b")") + 2 :].split()
    return int(fields[45]), int(fields[46])


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid, it names a process. None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            status = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the name, may hold spaces and parentheses.
    return int(status[status.rindex(b")") + 2 :].split()[19])


def open_process(pid: int) -> int | None:
    """pidfd_open(2): a pidfd of the process `pid`, None if there is none. Raises OSError."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        # EINVAL: the process is gone, and its pid still names a session or a group, or it is that of a thread.
        if error.errno not in (errno.ESRCH, errno.EINVAL):
            raise
        return None


def open_same(pid: int, started: int) -> int | None:
    """A pidfd of the process `pid` if it is the one that started at `started`, else None."""
    pidfd = open_process(pid)
    if pidfd is None:
        return None
    # Compared after the open: from here on the pid cannot be another process's.
    if start_time(pid) == started:
        return pidfd
    os.close(pidfd)
    return None


def send_signal(pidfd: int, number: int) -> bool:
    """Sends a signal to the process of a pidfd; False if that has exited. Raises OSError."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True
