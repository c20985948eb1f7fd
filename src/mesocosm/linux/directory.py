"""What a directory says of the files in it (getdents64(2))."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from mesocosm.linux.libc import system_call

DT_UNKNOWN = 0
_SIZE = 1 << 15
_ENTRY = struct.Struct("=QqHB")
"""The beginning of `struct linux_dirent64`: inode, offset, length, type; the name follows."""

_getdents64 = system_call(
    "getdents64", {"x86_64": 217, "aarch64": 61, "riscv64": 61}, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
)


def has_types(directory: Path) -> bool:
    """Whether the file system of `directory` tells the types of files with their names. Raises OSError.

    Overlayfs needs that to tell whiteouts from files. `.` and `..` may have a type where others do not.
    """
    probe = directory / "probe"
    probe.mkdir()
    try:
        return any(kind != DT_UNKNOWN for name, kind in _entries(directory) if name == b"probe")
    finally:
        probe.rmdir()


def _entries(directory: Path) -> list[tuple[bytes, int]]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found, buffer = [], ctypes.create_string_buffer(_SIZE)
    try:
        while size := _getdents64(descriptor, buffer, _SIZE):
            offset = 0
            while offset < size:
                _, _, length, kind = _ENTRY.unpack_from(buffer, offset)
                name = buffer.raw[offset + _ENTRY.size : offset + length].partition(b"\0")[0]
                found.append((name, kind))
                offset += length
    finally:
        os.close(descriptor)
    return found
