"""Capabilities of the calling thread (capabilities(7)). A set of them is a number with one bit for each."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable, Iterator

from mesocosm.dataclass import dataclass
from mesocosm.linux import prctl
from mesocosm.linux.libc import declare

NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""All that there are up to Linux 6.18, by their numbers, without the `CAP_` (<linux/capability.h>)."""

KILL = NAMES.index("KILL")
SETPCAP = NAMES.index("SETPCAP")
SYS_ADMIN = NAMES.index("SYS_ADMIN")
SYS_RESOURCE = NAMES.index("SYS_RESOURCE")

_VERSION_3 = 0x20080522  # <linux/capability.h>: 64 bits, in two parts.
_MOST = 64


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_capget = declare("capget", ctypes.c_int, ctypes.POINTER(_Header), ctypes.POINTER(_Data * 2))
_capset = declare("capset", ctypes.c_int, ctypes.POINTER(_Header), ctypes.POINTER(_Data * 2))


@dataclass(frozen=True, slots=True)
class Sets:
    """What a thread has, may have, and leaves to what it executes."""

    effective: int
    permitted: int
    inheritable: int = 0


def set_of(names: Iterable[str]) -> int:
    """The set of the capabilities `names`, which are among NAMES."""
    return sum(1 << number for number in {NAMES.index(name) for name in names})


def names_of(capabilities: int) -> tuple[str, ...]:
    """The names of those in a set; one newer than this list has its number for a name."""
    return tuple(NAMES[number] if number < len(NAMES) else str(number) for number in _numbers(capabilities))


def get() -> Sets:
    """The sets of the calling thread. Raises OSError."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _capget(header, data)
    return Sets(*(getattr(data[0], name) | getattr(data[1], name) << 32 for name in Sets.__slots__))


def put(sets: Sets) -> None:
    """capset(2): gives the calling thread these sets. Raises OSError."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    for name in Sets.__slots__:
        value = getattr(sets, name)
        setattr(data[0], name, value & 0xFFFFFFFF)
        setattr(data[1], name, value >> 32)
    _capset(header, data)


def has(capability: int) -> bool:
    """Whether the effective set has `capability`; never on systems without capabilities. Raises OSError."""
    try:
        return bool(get().effective >> capability & 1)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return False


def bounding() -> int:
    """The bounding set of the calling thread."""
    return sum(1 << number for number in _known() if prctl.is_bounding(number))


def limit_bounding(most: int) -> None:
    """Takes everything out of the bounding set that is not in `most`. Raises OSError."""
    for number in _known():
        if not most >> number & 1 and prctl.is_bounding(number):
            prctl.drop_bounding(number)


def raise_ambient(capabilities: int) -> None:
    """Adds a set, which is permitted and inheritable, to the ambient one. Raises OSError."""
    for number in _numbers(capabilities):
        prctl.raise_ambient(number)


def drop_inheritable() -> None:
    """Empties the inheritable set, and so the ambient one: no program gets capabilities by them. Raises OSError."""
    sets = get()
    put(Sets(sets.effective, sets.permitted))


def _numbers(capabilities: int) -> Iterator[int]:
    return (number for number in range(_MOST) if capabilities >> number & 1)


def _known() -> Iterator[int]:
    """The capabilities of this kernel, also those newer than NAMES."""
    for number in range(_MOST):
        try:
            prctl.is_bounding(number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return
        yield number
