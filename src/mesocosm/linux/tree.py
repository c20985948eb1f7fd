"""The removal of a directory that somebody else has filled: with links, mounts, and as deep as he liked."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Generator, Iterator, Sequence

from mesocosm.dataclass import dataclass, field
from mesocosm.linux import mount
from mesocosm.linux.path import identity_of, open_above, open_plain_directory

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 200
"""How much of the path of what cannot be removed is told, in characters."""


@dataclass(slots=True)
class _Level:
    """A directory on the way to the one that is being emptied, and what in it cannot be removed."""

    name: str
    identity: tuple[int, int]
    kept: set[str] = field(default_factory=set)


def open_below(root: int, parts: Sequence[str]) -> int:
    """The directory at `parts` below the directory `root`, where none of them is a link. Raises OSError."""
    current = os.dup(root)
    for name in parts:
        try:
            following = os.open(name, _DIRECTORY, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def directories(root: int) -> Iterator[int]:
    """Opens a directory and all below it, each before those in it, and one at a time, however deep they are.

    No link is followed, and no mount entered. Raises OSError, ESTALE if one is moved meanwhile.
    """
    here = open_plain_directory(root, ".")
    above: list[tuple[int, int]] = []
    try:
        yield here
        todo = [_subdirectories(here)]
        while True:
            if todo[-1]:
                if (below := _open_if_plain(here, todo[-1].pop())) is None:
                    continue
                above.append(identity_of(here))
                os.close(here)
                here = below
                yield here
                todo.append(_subdirectories(here))
            elif above:
                todo.pop()
                up = open_above(here, above.pop())
                os.close(here)
                here = up
            else:
                return
    finally:
        os.close(here)


def _subdirectories(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _open_if_plain(parent: int, name: str) -> int | None:
    """The directory; None for what is none any more, and where something is mounted."""
    try:
        return open_plain_directory(parent, name)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
            raise
        return None


def remove_tree(parent: int, name: str) -> Iterator[None]:
    """Removes `name` from the directory `parent`, with all that is in it, in steps: a caller may stop after any.

    No link is followed, and no mount entered. What can be removed is, whatever else cannot; then the first OSError is
    raised, EBUSY if something is mounted there. It takes a few descriptors, however deep the directory is.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    removal = _Removal(parent, name)
    try:
        yield from removal.steps()
    finally:
        removal.close()
    if removal.error is not None:
        raise removal.error
    os.rmdir(name, dir_fd=parent)


def remove_path(path: str | os.PathLike[str]) -> None:
    """Removes what is at `path` by `remove_tree`, whoever has filled it. Raises OSError."""
    above, name = os.path.split(os.path.abspath(path))
    parent = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in remove_tree(parent, name):
            pass
    finally:
        os.close(parent)


class _Removal:
    """Goes down and up through a directory, and has only one open at a time."""

    def __init__(self, parent: int, name: str) -> None:
        self.error: OSError | None = None
        self._mount = _mount_of(parent)
        self._here = self._open(name, parent)
        self._levels = [_Level(name, identity_of(self._here))]

    def close(self) -> None:
        os.close(self._here)

    def steps(self) -> Iterator[None]:
        while True:
            if (below := (yield from self._empty())) is not None:
                self._descend(below)
            elif len(self._levels) > 1:
                self._ascend()
            else:
                return

    def _empty(self) -> Generator[None, None, str | None]:
        """Removes what is here, up to a directory that has something in it; the name of that."""
        kept = self._levels[-1].kept
        with os.scandir(self._here) as entries:
            for entry in entries:
                yield
                if entry.name in kept:
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        os.rmdir(entry.name, dir_fd=self._here)
                    else:
                        os.unlink(entry.name, dir_fd=self._here)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return entry.name
                    self._keep(entry.name, error)
        return None

    def _descend(self, name: str) -> None:
        try:
            below = self._open(name, self._here)
        except OSError as error:
            self._keep(name, error)
            return
        os.close(self._here)
        self._here = below
        self._levels.append(_Level(name, identity_of(below)))

    def _ascend(self) -> None:
        level = self._levels.pop()
        try:
            above = open_above(self._here, self._levels[-1].identity)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path(level.name)) from error
        os.close(self._here)
        self._here = above
        try:
            os.rmdir(level.name, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._keep(level.name, error)

    def _open(self, name: str, parent: int) -> int:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            if _mount_of(descriptor) != self._mount:
                raise OSError(errno.EBUSY, "something is mounted on it", name)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _keep(self, name: str, error: OSError) -> None:
        self._levels[-1].kept.add(name)
        if self.error is None:
            self.error = OSError(error.errno, error.strerror, self._path(name))

    def _path(self, name: str) -> str:
        path = "/".join([*(level.name for level in self._levels), name])
        return path if len(path) <= _LONGEST else f"…{path[-_LONGEST:]}"


def _mount_of(descriptor: int) -> int:
    """What tells the mount of an open file from others: its id, also where one file system is mounted in two places."""
    if sys.platform != "linux":
        return os.fstat(descriptor).st_dev
    return mount.identity_of(descriptor)
