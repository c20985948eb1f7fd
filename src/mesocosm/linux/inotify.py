"""inotify(7): what has happened to files and directories, told by one descriptor to an event loop."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable

from mesocosm.linux.libc import declare

IN_MODIFY = 0x0002
IN_CLOSE_WRITE = 0x0008
IN_MOVED_TO = 0x0080
IN_CREATE = 0x0100
_IN_Q_OVERFLOW = 0x4000
_IN_ONESHOT = 0x80000000

_EVENT = struct.Struct("=iIII")
"""`struct inotify_event` of <sys/inotify.h>: which watch, what happened, and how long the name is that follows."""
_CHUNK = 65536

_inotify_init1 = declare("inotify_init1", ctypes.c_int, ctypes.c_int)
_inotify_add_watch = declare("inotify_add_watch", ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_inotify_rm_watch = declare("inotify_rm_watch", ctypes.c_int, ctypes.c_int, ctypes.c_int)


class Notifier:
    """Tells once of the next event of a file or a directory.

    Only once: whoever writes as fast as they can cause one event each time that somebody wants to know, and not one
    for each write. There is one instance for all, as a user may have 128 of them.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, mask: int, callback: Callable[[], None]) -> int:
        """Calls back at the next event of `mask`; returns what to give to `forget`. Raises OSError.

        `descriptor` may be one for the name only (O_PATH). Nobody else may watch the same inode. ENOSPC means that the
        user has as many watches as there may be (/proc/sys/fs/inotify/max_user_watches).
        """
        if self._descriptor is None:
            self._descriptor = _inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)  # As IN_NONBLOCK and IN_CLOEXEC are.
            asyncio.get_running_loop().add_reader(self._descriptor, self._dispatch)
        path = f"/proc/self/fd/{descriptor}".encode()
        watch = _inotify_add_watch(self._descriptor, path, mask | _IN_ONESHOT)
        self._callbacks[watch] = callback
        return watch

    def forget(self, watch: int) -> None:
        """Ends a watch; one that has told of its event is no error. Raises OSError."""
        if self._callbacks.pop(watch, None) is None or self._descriptor is None:
            return
        try:
            _inotify_rm_watch(self._descriptor, watch)
        except OSError as error:
            if error.errno != errno.EINVAL:  # The inode is gone, which is about to be told.
                raise

    def close(self) -> None:
        """Ends all watches, of which none tells of anything any more."""
        self._callbacks.clear()
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _dispatch(self) -> None:
        assert self._descriptor is not None
        data, position = os.read(self._descriptor, _CHUNK), 0
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            # Any event ends the watch: also IN_IGNORED, where the inode is gone.
            told = list(self._callbacks) if mask & _IN_Q_OVERFLOW else [watch]
            for each in told:
                if (callback := self._callbacks.pop(each, None)) is not None:
                    callback()
