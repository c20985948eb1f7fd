"""Resource limits of processes (getrlimit(2)), by their names without the `RLIMIT_`."""

from __future__ import annotations

import errno
import os
import resource
import sys

_LOCKS = 10  # <asm-generic/resource.h>; the module `resource` has not this one.
_MAXIMUM = (1 << 63) - 2

NAMES = (
    *("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS"),
    *("RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
)
"""All that there are, on any system."""


def number(name: str) -> int | None:
    """What the kernel of this system calls the limit `name`; None if it has no such limit."""
    if name == "LOCKS" and sys.platform == "linux":
        return _LOCKS
    known: int | None = getattr(resource, f"RLIMIT_{name}", None)
    return known


def finite(value: int | None) -> int | None:
    """The value of a limit; None for one that is too high to be a number for the kernel, and so is no limit."""
    return None if value is None or value > _MAXIMUM else value


def get(limit: int) -> tuple[int | None, int | None]:
    """The soft and the hard limit of the calling process; None where there is none. Raises OSError."""
    soft, hard = resource.getrlimit(limit)
    return None if soft == resource.RLIM_INFINITY else soft, None if hard == resource.RLIM_INFINITY else hard


def put(limit: int, soft: int | None, hard: int | None) -> None:
    """Sets both limits of the calling process; None for none. Raises OSError."""
    try:
        resource.setrlimit(limit, (_value(soft), _value(hard)))
    except ValueError as error:  # What the module makes of these two.
        code = errno.EPERM if "not allowed" in str(error) else errno.EINVAL
        raise OSError(code, f"setrlimit: {os.strerror(code)}") from error


def _value(limit: int | None) -> int:
    return resource.RLIM_INFINITY if limit is None else limit
