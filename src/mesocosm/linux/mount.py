"""Mounts, by descriptor (open_tree(2), fsopen(2), mount_setattr(2); Linux 5.12): no path is looked up twice."""

from __future__ import annotations

import ctypes
import enum
import errno
import os

from mesocosm.linux.libc import TYPE_CHECKING, declare, system_call

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


class Attribute(enum.IntFlag):
    """The MOUNT_ATTR_* flags of <linux/mount.h>."""

    NONE = 0
    READ_ONLY = 0x01
    NO_SUID = 0x02
    NO_DEVICES = 0x04
    NO_EXECUTE = 0x08
    STRICT_ACCESS_TIME = 0x20


class Propagation(enum.IntEnum):
    """Whether mount events travel (mount_namespaces(7))."""

    UNCHANGED = 0
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of <linux/mount.h>."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


_open_tree = system_call("open_tree", 428, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_move_mount = system_call(
    "move_mount", 429, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_fsopen = system_call("fsopen", 430, ctypes.c_char_p, ctypes.c_uint)
_fsconfig = system_call("fsconfig", 431, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
_fsmount = system_call("fsmount", 432, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_mount_setattr = system_call(
    "mount_setattr",
    442,
    *(ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.POINTER(_MountAttributes), ctypes.c_size_t),
)
_umount2 = declare("umount2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
_pivot_root = declare("pivot_root", ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)


def clone_tree(path: str, directory: int = AT_FDCWD, *, recursive: bool = True) -> int:
    """A detached copy of the mount at `path`, with those below it if `recursive`; "" is `directory` itself.

    Closing the descriptor before it is attached unmounts the copy. Raises OSError.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return _open_tree(directory, os.fsencode(path), flags)


def create(filesystem: str, options: Iterable[tuple[str, str | None]], attributes: Attribute = Attribute.NONE) -> int:
    """A detached mount of a new `filesystem`. An option without a value is a flag. Raises OSError."""
    context = _fsopen(filesystem.encode(), FSOPEN_CLOEXEC)
    try:
        _fsconfig(context, FSCONFIG_SET_STRING, b"source", filesystem.encode(), 0)
        for key, value in options:
            kind = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
            _fsconfig(context, kind, key.encode(), None if value is None else value.encode(), 0)
        _fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def attach(tree: int, target: int) -> None:
    """Mounts a detached tree on the file or directory of the descriptor `target`. Raises OSError."""
    _move_mount(tree, b"", target, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def change(
    tree: int,
    attributes: Attribute = Attribute.NONE,
    propagation: Propagation = Propagation.UNCHANGED,
    *,
    recursive: bool = True,
) -> None:
    """Adds `attributes` to a mount and sets its propagation, and of those below it if `recursive`. Raises OSError."""
    request = _MountAttributes(attr_set=attributes, propagation=propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _mount_setattr(tree, b"", flags, request, ctypes.sizeof(request))


def attach_at(tree: int, path: str) -> None:
    """Mounts a tree at a path of the host, which may be no link. Raises OSError."""
    target = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        attach(tree, target)
    finally:
        os.close(target)


def is_shared(path: str) -> bool:
    """Whether what is at `path` is on a shared mount, which tells its peers of mounts below it. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        identity = identity_of(descriptor)
    finally:
        os.close(descriptor)
    own, _ = _fields_of(identity)
    return any(field.startswith("shared:") for field in own[6:])


def filesystem_of(descriptor: int) -> str:
    """The type of the file system that an open file is on, such as `xfs`. Raises OSError."""
    _, filesystem = _fields_of(identity_of(descriptor))
    if not filesystem:
        raise OSError(errno.ENOENT, "its mount is not in /proc/self/mountinfo")
    return filesystem[0]


def _fields_of(identity: int) -> tuple[list[str], list[str]]:
    """What mountinfo (proc_pid_mountinfo(5)) has of a mount, and of its file system; nothing of one out of sight."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            own, _, filesystem = line.partition(" - ")
            if own.split(" ", 1)[0] == str(identity):
                return own.split(), filesystem.split()
    return [], []


def identity_of(descriptor: int) -> int:
    """The id of the mount that an open file is on. Raises OSError."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:  # proc_pid_fdinfo(5)
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id"))


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at `path`, which is no symbolic link; not where there is nothing. Raises OSError.

    Also a mount of the same file system as the one that it is on, which no stat(2) tells.
    """
    try:
        return _mount_of(path) != _mount_of(os.path.dirname(path))
    except FileNotFoundError:
        return False


def _mount_of(path: str) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return identity_of(descriptor)
    finally:
        os.close(descriptor)


def unmount(target: str, *, detach: bool = False) -> None:
    """umount2(2) of `target`, which may not be a symbolic link; lazily if `detach`. Raises OSError."""
    try:
        _umount2(os.fsencode(target), UMOUNT_NOFOLLOW | (MNT_DETACH if detach else 0))
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None


def unmount_open(directory: int) -> None:
    """Unmounts what the open `directory` is the root of, lazily. Raises OSError.

    It has no path that could be relied on, so it is made the working directory for a moment: umount2(2) takes no
    descriptor. For processes that have one thread.
    """
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.fchdir(directory)
        _umount2(b".", MNT_DETACH)
    finally:
        os.fchdir(before)
        os.close(before)


def pivot_root(root: int) -> None:
    """Makes the mount `root` the root of the mount namespace, and unmounts what was there. Raises OSError.

    With "." for both arguments the old root is stacked on the new one, and the working directory is still the old:
    see the notes of pivot_root(2).
    """
    os.fchdir(root)
    _pivot_root(b".", b".")
    _umount2(b".", MNT_DETACH)
    os.chdir("/")
