"""Capabilities of the calling thread (capabilities(7))."""

from __future__ import annotations

import ctypes
import errno

from mesocosm.linux.libc import declare

SYS_ADMIN = 21
_VERSION_3 = 0x20080522  # <linux/capability.h>: 64 bits, in two parts.


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_capget = declare("capget", ctypes.c_int, ctypes.POINTER(_Header), ctypes.POINTER(_Data * 2))
_capset = declare("capset", ctypes.c_int, ctypes.POINTER(_Header), ctypes.POINTER(_Data * 2))


def has(capability: int) -> bool:
    """Whether the effective set has `capability`; never on systems without capabilities. Raises OSError."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    try:
        _capget(header, data)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return False
    return bool(data[capability // 32].effective >> (capability % 32) & 1)


def drop_inheritable() -> None:
    """Empties the inheritable set, and so the ambient one: no program gets capabilities by them. Raises OSError."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _capget(header, data)
    for part in data:
        part.inheritable = 0
    _capset(header, data)
