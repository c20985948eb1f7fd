"""Writing below a directory that somebody else may change at any time, such as the sandbox of a container.

Every directory on the way is opened on its own, from the one before, and not if it is a link. So nothing can be written
elsewhere, whoever put the links there, an archive or the container's user. This also works without openat2(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from mesocosm.fetcher.base import FetchError

FILE_MODE, EXECUTABLE_MODE, DIRECTORY_MODE = 0o644, 0o755, 0o755
_MOST_MODE = 0o755
"""What a member of an archive may ask for: no set-id bits, and what the umask 022 leaves."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """The directory `root`, an open descriptor, which stays the caller's.

    Paths are sequences of names, without `..`. What is in the way of a file or link is replaced, but for directories.
    Methods raise FetchError where a link or file is in the place of a directory, and OSError.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._directories: dict[tuple[str, ...], tuple[int, float | None]] = {}

    @contextlib.contextmanager
    def file(self, path: Sequence[str], mode: int = FILE_MODE, mtime: float | None = None) -> Iterator[BinaryIO]:
        """A new, empty file to write to, which is gone again if that raises."""
        with self._place(path) as (parent, name):
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
            with open(descriptor, "w+b") as file:
                try:
                    yield file
                    file.flush()
                except BaseException:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=parent)
                    raise
                os.fchmod(descriptor, mode & _MOST_MODE)
                _set_time(descriptor, mtime)

    def directory(self, path: Sequence[str], mode: int = DIRECTORY_MODE, mtime: float | None = None) -> None:
        """A directory, made if it is missing. It gets its mode and time by `finish`."""
        if path:  # The mode of the root is not for an archive to say.
            with self._enter(path):
                self._directories[tuple(path)] = (mode & _MOST_MODE, mtime)

    def symlink(self, path: Sequence[str], target: str) -> None:
        """A symbolic link, to wherever: nothing here follows it."""
        with self._place(path) as (parent, name):
            os.symlink(target, name, dir_fd=parent)

    def link(self, path: Sequence[str], target: Sequence[str]) -> None:
        """A hard link to what there is at `target`."""
        if not target:
            raise FetchError("a link cannot be to the sandbox itself")
        if list(path) == list(target):
            return
        with self._enter(target[:-1]) as source, self._place(path) as (parent, name):
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Gives the directories their modes, which may keep anybody from writing to them, and their times."""
        for path, (mode, mtime) in sorted(self._directories.items(), key=lambda item: len(item[0]), reverse=True):
            with self._enter(path) as descriptor:
                _set_time(descriptor, mtime)
                with contextlib.suppress(PermissionError):  # It was there before, and is somebody else's.
                    os.fchmod(descriptor, mode)
        self._directories.clear()

    @contextlib.contextmanager
    def _place(self, path: Sequence[str]) -> Iterator[tuple[int, str]]:
        """The directory of a file to be, and its name there, at which there is nothing any more."""
        if not path:
            raise FetchError("a file cannot take the place of the sandbox")
        with self._enter(path[:-1]) as parent:
            try:
                os.unlink(path[-1], dir_fd=parent)
            except FileNotFoundError:
                pass
            except IsADirectoryError:
                raise FetchError(f"{'/'.join(path)!r} is a directory already") from None
            yield parent, path[-1]

    @contextlib.contextmanager
    def _enter(self, path: Sequence[str]) -> Iterator[int]:
        """The directory at `path`, made with those above it where missing."""
        current = os.dup(self._root)
        try:
            for depth, name in enumerate(path, 1):
                following = _open_directory(current, name, path[:depth])
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)


def _open_directory(parent: int, name: str, path: Sequence[str]) -> int:
    try:
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # Somebody else was faster.
                os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
            return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise FetchError(f"{'/'.join(path)!r} is a link or a file, where a directory is needed") from None


def _set_time(descriptor: int, mtime: float | None) -> None:
    if mtime is not None:
        # A time that no file can have is the archive's mistake, and no harm.
        with contextlib.suppress(OSError, OverflowError, ValueError):
            os.utime(descriptor, (mtime, mtime))
