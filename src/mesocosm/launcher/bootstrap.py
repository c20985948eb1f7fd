"""The first instructions of the launcher: it loads its libraries where they cannot be written to.

A root in a container may open the files that a process has mapped, by /proc/PID/map_files, and would write to the
host's libraries through those of its init. A file opened on a read-only mount stays read-only however it is opened
again. So the launcher is executed a second time in a mount namespace of its own, where every mount is read-only, maps
all it ever will, and goes back to the host's. What the first execution imports is imported twice, and therefore little.
"""

from __future__ import annotations

import os
import sys

from mesocosm.linux import mount
from mesocosm.linux.libc import TYPE_CHECKING
from mesocosm.linux.mount import Attribute, Propagation
from mesocosm.linux.namespaces import Namespace, enter, unshare

if TYPE_CHECKING:
    from typing import NoReturn

_HOST = 4
"""The descriptor of the host's mount namespace, in the second execution."""
_AGAIN = "again"


def main() -> NoReturn:
    """Becomes the launcher. Raises OSError."""
    again = _AGAIN in sys.argv
    if not again:
        _execute_again()
    from mesocosm.launcher import server, spawn

    if spawn.WITH_PROGRAMS in sys.argv:
        from mesocosm.launcher import programs

        programs.load()
    if again:
        enter(_HOST, Namespace.MOUNT)
        os.close(_HOST)
    server.main()


def _execute_again() -> None:
    """Comes back only where there is no right to mount, and so no container with more rights. Raises OSError."""
    try:
        host = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    except FileNotFoundError:  # No such namespaces, or no Linux.
        return
    try:
        unshare(Namespace.MOUNT)
    except PermissionError:
        os.close(host)
        return
    os.dup2(host, _HOST)
    os.set_inheritable(_HOST, True)  # It may have that number already.
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    mount.change(root, Attribute.READ_ONLY, Propagation.PRIVATE)
    os.execve("/proc/self/exe", [*sys.orig_argv, _AGAIN], {})
