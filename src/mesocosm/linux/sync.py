"""Getting what has been written to the disk, all files of a file system at once."""

from __future__ import annotations

import ctypes

from mesocosm.linux.libc import declare

_syncfs = declare("syncfs", ctypes.c_int, ctypes.c_int)


def sync_file_system(descriptor: int) -> None:
    """syncfs(2): returns when the file system of an open file is on the disk. Other threads wait. Raises OSError."""
    _syncfs(descriptor)
