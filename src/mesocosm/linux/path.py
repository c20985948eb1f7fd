"""Paths inside a directory that somebody else may write to: openat2(2) keeps every lookup below that root."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import posixpath
import stat
import sys

from mesocosm.dataclass import dataclass
from mesocosm.linux.libc import TYPE_CHECKING, system_call

if TYPE_CHECKING:
    from typing import Self

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_MOST_LINKS = 40
"""As the kernel follows in one path (path_resolution(7))."""

_REGULAR = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    """`struct open_how` of <linux/openat2.h>."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_openat2 = system_call("openat2", 437, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


def open_in_root(root: int, path: str | bytes, flags: int | None = None) -> int:
    """Opens `path` as if the directory `root` were `/`, by default as an O_PATH descriptor. Raises OSError with `path`.

    Symbolic links are followed, but not out of `root`; links of /proc that lead elsewhere are refused.
    """
    flags = os.O_PATH if flags is None else flags  # type: ignore[attr-defined, unused-ignore]
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=0, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    while True:
        try:
            return _openat2(root, os.fsencode(path) or b".", how, ctypes.sizeof(how))
        except OSError as error:
            # A rename somewhere in the system raced with the lookup of a "..": openat2(2) asks to try again.
            if error.errno != errno.EAGAIN:
                raise OSError(error.errno, error.strerror, path) from None


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a directory gets that is made: its mode and whose it is."""

    mode: int
    uid: int
    gid: int

    @classmethod
    def like(cls, directory: int, mode: int = 0o755) -> Self:
        """`mode`, and the owner of an open directory. Raises OSError."""
        status = os.fstat(directory)
        return cls(mode, status.st_uid, status.st_gid)


def make_directory(root: int, path: str, mode: int = 0o755, permissions: Permissions | None = None) -> int:
    """The directory `path` inside `root`, made with its parents if missing, as an O_PATH descriptor. Raises OSError.

    What is made is the caller's and has `mode`; but the last directory has the `permissions`, if there are any.
    """
    with contextlib.suppress(FileNotFoundError):
        return open_in_root(root, path)
    current = open_in_root(root, ".")
    done = ""
    names = [name for name in path.split("/") if name]
    for number, name in enumerate(names, 1):
        done = f"{done}/{name}"
        try:
            following = _open_or_make(root, current, done, name, mode, permissions if number == len(names) else None)
        finally:
            os.close(current)
        current = following
    return current


def make_file(root: int, path: str) -> int:
    """The file `path` inside `root`, made empty where missing, as an O_PATH descriptor. Raises OSError.

    Where a symbolic link leads to nothing inside `root`, the file is made there.
    """
    for _ in range(_MOST_LINKS):
        with contextlib.suppress(FileNotFoundError):
            return open_in_root(root, path)
        parent = make_directory(root, posixpath.dirname(path))
        try:
            path = _make_or_read_link(parent, path)
        finally:
            os.close(parent)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _make_or_read_link(parent: int, path: str) -> str:
    """Makes the last part of `path` in its directory; or else returns where the link leads that is there."""
    name = posixpath.basename(path)
    try:
        # O_EXCL does not follow a link, which could lead anywhere.
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
    except FileExistsError:
        try:
            return posixpath.join(posixpath.dirname(path), os.readlink(name, dir_fd=parent))
        except OSError as error:
            # No link any more: another container that shares the directory was faster.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
    return path


def _open_or_make(root: int, parent: int, path: str, name: str, mode: int, permissions: Permissions | None) -> int:
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:  # Another container that shares the directory was faster.
            permissions = None
        if permissions is not None:
            _give(parent, name, permissions)
        return open_in_root(root, path)


def open_regular(directory: int, name: str) -> int:
    """Opens the regular file `name` of the directory `directory` to read it, by no link. Raises OSError.

    EINVAL if it is anything else: a fifo could make the caller wait, and to open a device can have effects.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        return reopen(found)
    finally:
        os.close(found)


def reopen(found: int) -> int:
    """Opens to read what a descriptor is for that is for the name only. Raises OSError; waits for nobody's lease."""
    return os.open(f"/proc/self/fd/{found}", _REGULAR)


def open_plain_directory(parent: int, name: str) -> int:
    """Opens the directory `name` in the directory `parent`, in no other mount and by no link. Raises OSError.

    EXDEV if something is mounted there, ELOOP or ENOTDIR if it is a link.
    """
    if sys.platform == "linux":
        how = _OpenHow(flags=_DIRECTORY, mode=0, resolve=RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)
        return _openat2(parent, os.fsencode(name), how, ctypes.sizeof(how))
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    if os.fstat(descriptor).st_dev != os.fstat(parent).st_dev:
        os.close(descriptor)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return descriptor


def open_above(directory: int, expected: tuple[int, int]) -> int:
    """Opens the directory above another one, of the identity that was seen. Raises OSError, ESTALE if it is another."""
    above = os.open("..", _DIRECTORY, dir_fd=directory)
    if identity_of(above) == expected:
        return above
    os.close(above)
    raise OSError(errno.ESTALE, "it was moved meanwhile")


def identity_of(descriptor: int) -> tuple[int, int]:
    """What tells an open file from all others: its device and inode."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _give(parent: int, name: str, permissions: Permissions) -> None:
    """Has a new directory be as it is to be, unless somebody has put another one in its place meanwhile."""
    new = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        # What is empty and the caller's own can be nothing that anybody would gain by.
        if os.fstat(new).st_uid == os.geteuid() and not os.listdir(new):
            os.fchown(new, permissions.uid, permissions.gid)
            os.fchmod(new, permissions.mode)
    finally:
        os.close(new)
