"""The one way to a function of the C library or a system call: declared once, at module level, with an errno check.

Functions are looked up when they are declared. One that this platform lacks raises ENOSYS when it is called, so that
every module imports everywhere.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False  # As `typing` has it, without the time that it takes to load: the launcher starts with this.
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# PyDLL, not CDLL: a call keeps the GIL, as a process just cloned has no other thread to take it back from.
_libc = ctypes.PyDLL(None, use_errno=True)


def declare(name: str, result: Any, *arguments: Any) -> Callable[..., int]:
    """The C function `name`, for which -1 means that errno tells what failed. It then raises OSError."""
    if not hasattr(_libc, name):
        return _missing(name)
    function = _libc[name]
    function.restype = result
    function.argtypes = arguments
    function.errcheck = _checked(name)
    return function


def system_call(name: str, number: int | Mapping[str, int], *arguments: Any) -> Callable[..., int]:
    """The system call `number`, for those that have no function in the C library. Raises OSError like `declare`.

    Calls from Linux 5.1 on have one number on every architecture; older ones are given by `uname -m`.
    """
    if not isinstance(number, int):
        number = number.get(os.uname().machine, -1)
    if not hasattr(_libc, "syscall") or number == -1:
        return _missing(name)
    function = _libc["syscall"]  # By item, not by attribute: a function object of its own, with argtypes of its own.
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, *arguments)
    function.errcheck = _checked(name)

    def call(*values: Any) -> int:
        return int(function(number, *values))

    return call


def _checked(name: str) -> Any:
    def check(result: int, _function: object, _arguments: object) -> int:
        if result == -1:
            code = ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")
        return result

    return check


def _missing(name: str) -> Callable[..., int]:
    def call(*_values: Any) -> int:
        raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)}")

    return call
