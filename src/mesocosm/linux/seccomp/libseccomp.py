"""libseccomp: what makes programs for seccomp(2) out of rules by name (seccomp_rule_add(3)). It is loaded when used.

Its functions return 0, or a negative errno; `seccomp_init` returns a null pointer instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from mesocosm.errors import UnsupportedError

_LIBRARY = "libseccomp.so.2"
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_TRACE = 0x7FF00000
KILL_PROCESS = 0x80000000
_CODES = 0xFFFF
ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_TRAP": 0x00030000,
}
"""<seccomp.h>, but for SCMP_ACT_NOTIFY, which needs somebody who listens."""
COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ON_OTHER_ARCHITECTURES = 2  # SCMP_FLTATR_ACT_BADARCH
_UNKNOWN = -1  # __NR_SCMP_ERROR


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: what an argument of a system call has to be."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


_CONTEXT = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "seccomp_init": (_CONTEXT, (ctypes.c_uint32,)),
    "seccomp_release": (None, (_CONTEXT,)),
    "seccomp_attr_set": (ctypes.c_int, (_CONTEXT, ctypes.c_int, ctypes.c_uint32)),
    "seccomp_arch_native": (ctypes.c_uint32, ()),
    "seccomp_arch_resolve_name": (ctypes.c_uint32, (ctypes.c_char_p,)),
    "seccomp_arch_add": (ctypes.c_int, (_CONTEXT, ctypes.c_uint32)),
    "seccomp_syscall_resolve_name": (ctypes.c_int, (ctypes.c_char_p,)),
    "seccomp_rule_add_array": (
        ctypes.c_int,
        (_CONTEXT, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)),
    ),
    "seccomp_export_bpf": (ctypes.c_int, (_CONTEXT, ctypes.c_int)),
}


@cache
def _library() -> Any:
    """The library, its functions declared. Raises UnsupportedError where it is not installed."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UnsupportedError(f"{_LIBRARY} cannot be loaded: {error}", "install it (Debian: libseccomp2)") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def check() -> None:
    """Raises UnsupportedError where the library is not installed."""
    _library()


def action(name: str, code: int = errno.EPERM) -> int:
    """The action `name`; `code` is the errno of SCMP_ACT_ERRNO, and what a tracer gets of SCMP_ACT_TRACE."""
    value = ACTIONS[name]
    return value | (code & _CODES) if value in (_ERRNO, _TRACE) else value


def native_architecture() -> int:
    """The architecture that this process runs on."""
    return int(_library().seccomp_arch_native())


def architecture(name: str) -> int | None:
    """The architecture `name`, as in `x86_64`; None for one that the library does not know."""
    return _library().seccomp_arch_resolve_name(name.encode()) or None


def system_call(name: str) -> int | None:
    """The number of a system call, negative if only other architectures have it; None if the library has none."""
    number = int(_library().seccomp_syscall_resolve_name(name.encode()))
    return None if number == _UNKNOWN else number


class Filter:
    """Rules that become a program. The default action is for system calls that no rule is about."""

    def __init__(self, context: int) -> None:
        self._context = context
        _checked("seccomp_attr_set", _library().seccomp_attr_set(context, _ON_OTHER_ARCHITECTURES, KILL_PROCESS))

    def add_architecture(self, token: int) -> None:
        """Filters the system calls of another architecture, too, instead of killing who makes one. Raises OSError."""
        result = _library().seccomp_arch_add(self._context, token)
        if result != -errno.EEXIST:
            _checked("seccomp_arch_add", result)

    def add_rule(self, action: int, number: int, comparisons: Sequence[Comparison] = ()) -> None:
        """Adds a rule for a system call whose arguments fulfil all `comparisons`. Raises OSError."""
        array = (Comparison * len(comparisons))(*comparisons)
        result = _library().seccomp_rule_add_array(self._context, action, number, len(array), array)
        if result != -errno.EEXIST:  # There is this very rule.
            _checked("seccomp_rule_add", result)

    def program(self) -> bytes:
        """The filter for `mesocosm.linux.seccomp.load`. Raises OSError."""
        descriptor = os.memfd_create("seccomp")
        try:
            _checked("seccomp_export_bpf", _library().seccomp_export_bpf(self._context, descriptor))
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)


@contextmanager
def new_filter(default: int) -> Iterator[Filter]:
    """A filter without rules for the architecture of this process. Raises OSError."""
    context = _library().seccomp_init(default)
    if context is None:
        raise OSError(errno.EINVAL, f"seccomp_init: {os.strerror(errno.EINVAL)}")
    try:
        yield Filter(context)
    finally:
        _library().seccomp_release(context)


def _checked(name: str, result: int) -> None:
    if result < 0:
        raise OSError(-result, f"{name}: {os.strerror(-result)}")
