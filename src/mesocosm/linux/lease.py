"""Leases on files (fcntl(2), F_SETLEASE), by which the kernel tells whether somebody has a file open for writing."""

from __future__ import annotations

import errno
import fcntl
import signal
import sys

_UNKNOWN = frozenset({errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP})
"""It is another user's file, or one of a file system without leases."""


def is_written(descriptor: int) -> bool:
    """Whether any process has the file open for writing that is open to read; False where nobody can tell.

    Raises OSError.
    """
    if sys.platform != "linux":
        return False
    # Should somebody open it at that very moment, the kernel signals that. SIGIO would end this process.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        if error.errno in _UNKNOWN:
            return False
        raise
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
