"""Files of a root file system that is made of several directories, before anybody has mounted them as an overlay.

A name is found as overlayfs would (kernel: filesystems/overlayfs.rst): in the uppermost directory that has it, unless a
whiteout above, a device 0/0, says that it is gone, or an opaque directory that nothing below it counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

OPAQUE = "trusted.overlay.opaque"
_MOST_LINKS = 40
"""MAXSYMLINKS of <linux/namei.h>."""
_SEARCHED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a file says that those of its name in lower layers are gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: int | str) -> bool:
    """Whether nothing in lower layers counts that is in this directory, given by its descriptor or path."""
    try:
        return os.getxattr(directory, OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


def open_in_layers(layers: Sequence[str], path: str, flags: int) -> int:
    """Opens the file `path` of the root that `layers` make, the lowest first. Raises OSError with `path`.

    Links are followed as if that root were `/`, and never out of it.
    """
    with contextlib.ExitStack() as opened:
        tops = [os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for layer in reversed(layers)]
        for descriptor in tops:
            opened.callback(os.close, descriptor)
        try:
            return _Lookup(tops, opened).open(path, flags)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None


class _Lookup:
    """Goes from directory to directory; each is a list of those that are merged there, the uppermost first."""

    def __init__(self, tops: list[int], opened: contextlib.ExitStack) -> None:
        self._way = [tops]
        self._opened = opened
        self._links = 0

    def open(self, path: str, flags: int) -> int:
        todo = self._parts(path)
        while todo:
            name = todo.pop()
            if name == "..":
                self._way = self._way[:-1] or self._way[:1]
                continue
            directory, status = self._find(name)
            if stat.S_ISLNK(status.st_mode):
                todo += self._follow(os.readlink(name, dir_fd=directory))
            elif stat.S_ISDIR(status.st_mode):
                self._way.append(list(self._merged(name)))
            elif todo:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            else:
                return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _parts(self, path: str) -> list[str]:
        """The names on the way, the first one last."""
        return [name for name in reversed(path.split("/")) if name not in ("", ".")]

    def _follow(self, target: str) -> list[str]:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            self._way = self._way[:1]
        return self._parts(target)

    def _find(self, name: str) -> tuple[int, os.stat_result]:
        """The uppermost directory that has `name`, and what that is. Raises FileNotFoundError."""
        for directory in self._way[-1]:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if is_whiteout(status):
                    break
                return directory, status
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _merged(self, name: str) -> Iterator[int]:
        """The directories called `name` that are one to who looks from above."""
        for directory in self._way[-1]:
            try:
                descriptor = os.open(name, _SEARCHED, dir_fd=directory)
            except FileNotFoundError:
                continue
            except NotADirectoryError:  # Also a whiteout, or a link: what is below it does not show.
                return
            self._opened.callback(os.close, descriptor)
            yield descriptor
            if is_opaque(descriptor):
                return
