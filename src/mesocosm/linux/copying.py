"""Copies of files with all that belongs to them: owner, mode, times, extended attributes, device numbers."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

FICLONE = 0x40049409
"""ioctl_ficlone(2): shares the blocks of two files until one of them is written to."""
_NOT_HERE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
_OVERLAY = "trusted.overlay."
_CHUNK = 1 << 30


def copy_node(source: str, target: str, status: os.stat_result) -> None:
    """Makes `target`, which does not exist, like `source`, whose lstat(2) is `status`; a directory is empty then.

    No link is followed. Times have to be copied last, by `copy_times`. Raises OSError.
    """
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(target, 0o700)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
    elif kind == stat.S_IFREG:
        _copy_content(source, target)
    else:
        os.mknod(target, kind | 0o600, status.st_rdev)
    copy_attributes(source, target, status)


def copy_attributes(source: str, target: str, status: os.stat_result) -> None:
    """Owner, mode and extended attributes, but for those that overlayfs keeps. Raises OSError."""
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))  # After the owner, who changes it.
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(_OVERLAY):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)


def copy_times(target: str, status: os.stat_result) -> None:
    """When it was read and changed. Raises OSError."""
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_content(source: str, target: str) -> None:
    """Shares the blocks where the file system can, else has the kernel copy them."""
    reads = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writes = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _share_or_copy(reads, writes)
        finally:
            os.close(writes)
    finally:
        os.close(reads)


def _share_or_copy(reads: int, writes: int) -> None:
    try:
        fcntl.ioctl(writes, FICLONE, reads)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    else:
        return
    while os.copy_file_range(reads, writes, _CHUNK):
        pass
