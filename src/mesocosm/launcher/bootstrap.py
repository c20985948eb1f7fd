"""The first instructions of the launcher: it loads its libraries where they cannot be written to.

A root in a container may open the files that a process has mapped, by /proc/PID/map_files, and would write to the
host's libraries through those of its init. A file opened on a read-only mount stays read-only however it is opened
again. So the launcher is executed a second time in a mount namespace of its own, where every mount is read-only, maps
all it ever will, and goes back to the host's.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from mesocosm.linux import capabilities, mount
from mesocosm.linux.mount import Attribute, Propagation
from mesocosm.linux.namespaces import Namespace, enter, unshare

_HOST = 4
"""The descriptor of the host's mount namespace, in the second execution."""
_AGAIN = "again"


def main() -> NoReturn:
    """Becomes the launcher. Raises OSError."""
    may_mount = capabilities.has(capabilities.SYS_ADMIN)
    if may_mount and _AGAIN not in sys.argv:
        _execute_again()
    from mesocosm.launcher import server, spawn

    if spawn.WITH_PROGRAMS in sys.argv:
        from mesocosm.launcher import programs

        programs.load()
    if may_mount:
        enter(_HOST, Namespace.MOUNT)
        os.close(_HOST)
    server.main()


def _execute_again() -> NoReturn:
    host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(host, _HOST)
    os.set_inheritable(_HOST, True)  # It may have that number already.
    unshare(Namespace.MOUNT)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    mount.change(root, Attribute.READ_ONLY, Propagation.PRIVATE)
    os.execve("/proc/self/exe", [*sys.orig_argv, _AGAIN], {})
