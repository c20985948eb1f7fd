"""Project quotas of XFS (xfs_quota(8), quotactl(2), ioctl_fslabel's neighbours in <linux/fs.h>): no helper program.

A project is a number that a file has. One that is made in a directory inherits it, if the directory says so.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from mesocosm.linux.libc import system_call
from mesocosm.linux.mount import filesystem_of
from mesocosm.linux.usage import Walk

# <linux/quota.h>, <linux/dqblk_xfs.h>
_PRJQUOTA = 2
_Q_XQUOTAON, _Q_XGETQUOTA, _Q_XSETQLIM, _Q_XGETQSTATV = 0x5801, 0x5803, 0x5804, 0x5808
_FS_DQUOT_VERSION = _FS_QSTATV_VERSION1 = 1
_FS_PROJ_QUOTA = 2
_FS_DQ_BSOFT, _FS_DQ_BHARD = 1 << 2, 1 << 3
_FS_QUOTA_PDQ_ACCT, _FS_QUOTA_PDQ_ENFD = 1 << 4, 1 << 5
_BASIC_BLOCK = 512
# <linux/fs.h>
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FS_XFLAG_PROJINHERIT = 0x200
LARGEST_PROJECT = (1 << 32) - 1


class _Quota(ctypes.Structure):
    """`struct fs_disk_quota`."""

    _fields_ = [
        ("version", ctypes.c_int8),
        ("flags", ctypes.c_int8),
        ("field_mask", ctypes.c_uint16),
        ("id", ctypes.c_uint32),
        ("block_hard_limit", ctypes.c_uint64),
        ("block_soft_limit", ctypes.c_uint64),
        ("inode_hard_limit", ctypes.c_uint64),
        ("inode_soft_limit", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("inodes", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 56),
    ]


class _State(ctypes.Structure):
    """`struct fs_quota_statv`."""

    _fields_ = [
        ("version", ctypes.c_int8),
        ("pad", ctypes.c_uint8),
        ("flags", ctypes.c_uint16),
        ("rest", ctypes.c_uint8 * 252),
    ]


class _Attributes(ctypes.Structure):
    """`struct fsxattr`."""

    _fields_ = [
        ("flags", ctypes.c_uint32),
        ("extent_size", ctypes.c_uint32),
        ("extents", ctypes.c_uint32),
        ("project", ctypes.c_uint32),
        ("cow_extent_size", ctypes.c_uint32),
        ("pad", ctypes.c_uint8 * 8),
    ]


_quotactl_fd = system_call("quotactl_fd", 443, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class QuotaState:
    """Whether XFS counts what projects use, and whether their limits hold."""

    accounts: bool
    enforces: bool


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project uses and may use, in bytes; 0 for no limit. `inodes` are its files."""

    used: int
    inodes: int
    soft: int
    hard: int


def state(descriptor: int) -> QuotaState | None:
    """Of the file system of an open file; None if that has no quotas. Raises OSError, ENOSYS before Linux 5.14."""
    if filesystem_of(descriptor) != "xfs":
        return None
    found = _State(version=_FS_QSTATV_VERSION1)
    try:
        _quota_call(descriptor, _Q_XGETQSTATV, 0, found)
    except OSError as error:
        if error.errno == errno.ENOSYS and _is_there(descriptor):
            return QuotaState(accounts=False, enforces=False)
        raise
    flags = found.flags
    return QuotaState(bool(flags & _FS_QUOTA_PDQ_ACCT), bool(flags & _FS_QUOTA_PDQ_ENFD))


def _is_there(descriptor: int) -> bool:
    """Whether the kernel has the call at all: it answers ENOSYS, too, where XFS was mounted without quotas."""
    try:
        _quota_call(descriptor, 0, 0, _State())
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def enforce(descriptor: int) -> None:
    """Has limits hold where they were only counted (`pqnoenforce`). Raises OSError."""
    try:
        _quota_call(descriptor, _Q_XQUOTAON, 0, ctypes.c_uint32(_FS_QUOTA_PDQ_ACCT | _FS_QUOTA_PDQ_ENFD))
    except OSError as error:
        if error.errno != errno.EEXIST:  # It is so already.
            raise


def quota(descriptor: int, project: int) -> Quota:
    """Of a project, on the file system of an open file. Raises OSError."""
    found = _Quota(version=_FS_DQUOT_VERSION, id=project, flags=_FS_PROJ_QUOTA)
    try:
        _quota_call(descriptor, _Q_XGETQUOTA, project, found)
    except OSError as error:
        if error.errno != errno.ENOENT:  # Nothing has been made in that project yet.
            raise
        return Quota(0, 0, 0, 0)
    return Quota(
        found.blocks * _BASIC_BLOCK,
        found.inodes,
        found.block_soft_limit * _BASIC_BLOCK,
        found.block_hard_limit * _BASIC_BLOCK,
    )


def set_quota(descriptor: int, project: int, soft: int, hard: int) -> None:
    """Limits a project to so many bytes, 0 for none. Raises OSError."""
    request = _Quota(
        version=_FS_DQUOT_VERSION,
        id=project,
        flags=_FS_PROJ_QUOTA,
        field_mask=_FS_DQ_BSOFT | _FS_DQ_BHARD,
        block_soft_limit=-(-soft // _BASIC_BLOCK),
        block_hard_limit=-(-hard // _BASIC_BLOCK),
    )
    _quota_call(descriptor, _Q_XSETQLIM, project, request)


def _quota_call(descriptor: int, command: int, project: int, argument: object) -> None:
    _quotactl_fd(descriptor, command << 8 | _PRJQUOTA, project, ctypes.addressof(argument))  # type: ignore[arg-type]


def project_of(path: Path) -> int:
    """The project of a directory, which may not be a link; 0 is that of files that have no other. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return int(_attributes(descriptor).project)
    finally:
        os.close(descriptor)


def set_project(path: Path, project: int) -> None:
    """Gives the directory and all that is in it to the project. What is made in it later belongs to that, too.

    Links in it, fifos and devices stay as they are, as the kernel has no call for them. Raises OSError, also where
    `path` itself is a link.
    """
    project_of(path)
    walk = _Assignment(str(path), project)
    try:
        walk.run()
    finally:
        walk.close()


class _Assignment(Walk):
    """Gives what it sees to a project."""

    def __init__(self, directory: str, project: int) -> None:
        super().__init__(directory)
        self._project = project

    def enter(self, directory: int) -> None:
        """The directory itself, before what is in it, lest something be made meanwhile."""
        _assign(directory, self._project)

    def visit(self, name: str, status: os.stat_result, directory: int) -> None:
        """A file, which may be something else by now."""
        if not stat.S_ISREG(status.st_mode):
            return
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                _assign(descriptor, self._project)
        finally:
            os.close(descriptor)


def _assign(descriptor: int, project: int) -> None:
    attributes = _attributes(descriptor)
    attributes.project = project
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        attributes.flags |= _FS_XFLAG_PROJINHERIT
    fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, attributes)


def _attributes(descriptor: int) -> _Attributes:
    found = _Attributes()
    fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, found)
    return found
