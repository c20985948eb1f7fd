"""Namespaces (namespaces(7)): their flags, entering and inspecting them."""

from __future__ import annotations

import ctypes
import enum
import os

from mesocosm.linux.libc import declare


class Namespace(enum.IntFlag):
    """The CLONE_NEW* flags of <sched.h>."""

    NONE = 0
    MOUNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NETWORK = 0x40000000

    @property
    def file(self) -> str:
        """The name of this one namespace below /proc/PID/ns."""
        return {"MOUNT": "mnt", "NETWORK": "net"}.get(self.name or "", (self.name or "").lower())


_setns = declare("setns", ctypes.c_int, ctypes.c_int, ctypes.c_int)
_unshare = declare("unshare", ctypes.c_int, ctypes.c_int)


def enter(pidfd: int, namespaces: Namespace) -> None:
    """setns(2) with a pidfd (Linux 5.8): enters `namespaces` of that process, all or none. Raises OSError."""
    _setns(pidfd, int(namespaces))


def unshare(namespaces: Namespace) -> None:
    """unshare(2): moves the calling process into new `namespaces`. Raises OSError."""
    _unshare(int(namespaces))


def supported(namespace: Namespace) -> bool:
    """Whether the kernel has this kind of namespace."""
    return os.path.exists(f"/proc/self/ns/{namespace.file}")


def inode(pid: int, namespace: Namespace) -> int:
    """The inode that names the namespace of a process. Raises OSError."""
    return os.stat(f"/proc/{pid}/ns/{namespace.file}").st_ino
