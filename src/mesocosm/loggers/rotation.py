"""A log file that is renamed when it is full, and begun anew; in a directory that somebody else may write to."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_MODE = 0o644


class RotatedFile:
    """The file `name` of a directory, with the `count` last ones that were full: `name.1`, before it `name.2` and on.

    Each has `max_size` bytes at most, whatever else is in the directory: no link is followed, and nothing but a
    regular file is written to. Where a rotation fails, as there is a directory in the way, the full file is emptied.
    """

    def __init__(self, directory: int, name: str, max_size: int, count: int) -> None:
        """Opens the file and appends to what it has. `directory` is a descriptor, of which a copy is kept.

        Raises OSError.
        """
        self._name = name
        self._max_size = max_size
        self._count = count
        self._missing = 0
        self._reason = ""
        self._directory = os.dup(directory)
        try:
            self._descriptor = self._open(os.O_CREAT)
            self._size = os.fstat(self._descriptor).st_size
        except OSError:
            os.close(self._directory)
            raise

    def close(self) -> None:
        """Closes the file."""
        _close(self._descriptor)
        _close(self._directory)

    def write(self, data: bytes) -> None:
        """Appends `data`. What cannot be written is lost; the file says so, where it can be written to again."""
        if self._missing:
            missing, self._missing = self._missing, 0
            self._add(f"\n[{missing} bytes of output could not be written: {self._reason}]\n".encode())
            if self._missing:
                self._missing = missing + len(data)
                return
        self._add(data)

    def _add(self, data: bytes) -> None:
        while len(data) > (room := self._max_size - self._size):
            # Lines stay whole if one ends in the room that is left, or there is more room in the next file.
            length = data.rfind(b"\n", 0, max(room, 0)) + 1 or (room if self._size == 0 else 0)
            self._append(data[:length])
            data = data[length:]
            self._rotate()
        self._append(data)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._size += written
                rest = rest[written:]
        except OSError as error:
            # Of any kind: a disk that is full or broken must not hold up the container, nor the logs of others.
            self._missing += len(rest)
            self._reason = os.strerror(error.errno or errno.EIO)

    def _rotate(self) -> None:
        self._size = 0
        try:
            self._shift()
            # What has that name by now was put there in the meantime.
            descriptor = self._open(os.O_CREAT | os.O_EXCL)
        except OSError:
            # Of any kind: whoever owns the directory can be in the way by many means, and the limit holds all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            return
        _close(self._descriptor)
        self._descriptor = descriptor

    def _shift(self) -> None:
        """Renames every file to the next older one, and removes the oldest. Raises OSError."""
        names = [self._name, *(f"{self._name}.{number}" for number in range(1, self._count + 1))]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(names[-1], dir_fd=self._directory)
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, older, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _open(self, how: int) -> int:
        # Not to wait for the reader of a pipe, or for somebody to give up a lease (fcntl(2)).
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | how
        descriptor = os.open(self._name, flags, _MODE, dir_fd=self._directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", self._name)
        return descriptor


def _close(descriptor: int) -> None:
    # It is closed in any case; an error tells that something written earlier was lost (close(2)).
    with contextlib.suppress(OSError):
        os.close(descriptor)
