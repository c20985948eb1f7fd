"""seccomp(2): filters of system calls, as programs that are ready to be loaded."""

from __future__ import annotations

import ctypes
import errno

from mesocosm.linux.libc import system_call

_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_RET_ERRNO = 0x00050000
_INSTRUCTION = 8
"""The size of a `struct sock_filter` (<linux/filter.h>)."""


class _Program(ctypes.Structure):
    """`struct sock_fprog` of <linux/filter.h>."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


_seccomp = system_call("seccomp", {"x86_64": 317, "aarch64": 277}, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)


def load(program: bytes) -> None:
    """Filters the system calls of the calling thread, and of all that it starts, by `program`. There is no way back.

    It takes CAP_SYS_ADMIN, or that the thread may gain no privileges. Raises OSError.
    """
    arguments = _Program(len(program) // _INSTRUCTION, program)
    _seccomp(_SET_MODE_FILTER, 0, ctypes.addressof(arguments))


def supported() -> bool:
    """Whether the kernel has filters."""
    action = ctypes.c_uint32(_RET_ERRNO)
    try:
        _seccomp(_GET_ACTION_AVAIL, 0, ctypes.addressof(action))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return False
    return True
