"""prctl(2): what a process says of itself to the kernel."""

from __future__ import annotations

import ctypes

from mesocosm.linux.libc import declare

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2

_prctl = declare("prctl", ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def hide_from_ptrace() -> None:
    """Makes the process undumpable: no other without CAP_SYS_PTRACE may trace it or open its /proc/PID/fd (proc(5))."""
    _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def signal_at_end_of_parent(number: int) -> None:
    """Has a signal sent when the thread that made this process has ended, also after an exec (PR_SET_PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Makes the process the parent of every descendant whose own parent has ended (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_name(name: str) -> None:
    """The name of the thread (PR_SET_NAME), cut to 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def keep_capabilities() -> None:
    """Lets a root that becomes another user keep its permitted capabilities until the next exec (PR_SET_KEEPCAPS)."""
    _prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)


def gain_no_privileges() -> None:
    """From now on no exec gives privileges, by set-user-id bits or capabilities of a file (no_new_privs.rst)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def is_bounding(capability: int) -> bool:
    """Whether the bounding set has `capability`. Raises OSError (EINVAL) for one that this kernel does not know."""
    return bool(_prctl(_PR_CAPBSET_READ, capability, 0, 0, 0))


def drop_bounding(capability: int) -> None:
    """Takes `capability` out of the bounding set, for which CAP_SETPCAP is needed. Raises OSError."""
    _prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def raise_ambient(capability: int) -> None:
    """Adds `capability`, which is permitted and inheritable, to the ambient set (Linux 4.3). Raises OSError."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
