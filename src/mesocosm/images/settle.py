"""Directories that a layer has something in, without saying what they are: they are as in the layers below.

An archive may name `etc/motd` and not `etc`. Overlayfs would give that directory the owner, mode and attributes that
it has in the upper layer, where it only was made to have something in it. So where those of lower layers are others,
the image gets a copy of the layer that has them. Its files are hard links, so that it takes no room.

The root is the case that happens, as tools leave it out of archives; it is nearly always as it is by default.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesocosm.images.errors import ImageError
from mesocosm.linux.layers import OPAQUE
from mesocosm.linux.path import open_in_root
from mesocosm.linux.sync import sync_file_system

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 256
"""Directories in directories that are copied: an archive can make more, by way of links, than could be gone through."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of a directory."""

    mode: int
    owner: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, directory: int) -> Attributes:
        """Those of an open one, but for what is the layer's alone. Raises OSError."""
        found = os.fstat(directory)
        names = sorted(name for name in os.listxattr(directory) if name != OPAQUE)
        return cls(
            stat.S_IMODE(found.st_mode),
            (found.st_uid, found.st_gid),
            tuple((name, os.getxattr(directory, name)) for name in names),
        )

    def apply(self, directory: int) -> None:
        """Gives them to an open directory. Raises OSError."""
        os.fchown(directory, *self.owner)
        os.fchmod(directory, self.mode)
        for name, value in self.xattrs:
            os.setxattr(directory, name, value)


def name_in_context(name: str, below: Sequence[str]) -> str:
    """What the copy of the layer `name` is called that is for lying on the layers `below`, the lowest first."""
    return f"on-{hashlib.sha256(' '.join((*below, name)).encode()).hexdigest()}"


def differences(tree: Path, implied: Collection[bytes], below: Sequence[Path]) -> dict[bytes, Attributes]:
    """What differs in the layers `below`, the lowest first, of directories that a layer implies. Raises OSError."""
    found = {}
    for path in implied:
        own, ends = _look_up(tree, path)
        there = None if ends or own is None else _lower(path, below)
        if there is not None and there != own:
            found[path] = there
    return found


def _lower(path: bytes, below: Sequence[Path]) -> Attributes | None:
    """What a directory is in the layers `below`, seen together; None if there is none."""
    for layer in reversed(below):
        found, ends = _look_up(layer, path)
        if found is not None or ends:
            return found
    return None


def _look_up(tree: Path, path: bytes) -> tuple[Attributes | None, bool]:
    """A directory of one layer, if it has that, and whether those of lower layers are not to be seen by it."""
    current, ends = os.open(tree, _DIRECTORY), False
    try:
        for name in path.split(b"/") if path else ():
            following = os.open(name, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
            ends |= OPAQUE in os.listxattr(current)
        return Attributes.of(current), ends
    except FileNotFoundError:
        return None, ends
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return None, True  # Another file, a link or a whiteout.
        raise
    finally:
        os.close(current)


def copy(tree: Path, target: Path, changed: dict[bytes, Attributes]) -> None:
    """Makes the empty directory `target` a copy of a layer with other attributes, on the disk. Raises OSError."""
    source, copy_ = (os.open(path, _DIRECTORY) for path in (tree, target))
    try:
        _copy(source, copy_)
        for path, attributes in changed.items():
            directory = open_in_root(copy_, path or b".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                attributes.apply(directory)
            finally:
                os.close(directory)
        sync_file_system(copy_)
    finally:
        os.close(source)
        os.close(copy_)


def _copy(source: int, target: int, depth: int = 0) -> None:
    """With two descriptors for each level."""
    if depth > _DEEPEST:
        raise ImageError(f"its directories are in each other more than {_DEEPEST} deep")
    with os.scandir(source) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if not is_directory:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            continue
        os.mkdir(name, dir_fd=target)
        below = [os.open(name, _DIRECTORY, dir_fd=parent) for parent in (source, target)]
        try:
            _copy(below[0], below[1], depth + 1)
        finally:
            for descriptor in below:
                os.close(descriptor)
    Attributes.of(source).apply(target)
    if OPAQUE in os.listxattr(source):
        os.setxattr(target, OPAQUE, b"y")
    status = os.fstat(source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
