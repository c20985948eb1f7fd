"""Pseudoterminals (pty(7), ioctl_tty(2)), by their masters."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

TIOCGPTN = 0x80045430
TIOCGPTPEER = 0x5441
_NUMBER = struct.Struct("=I")
SIDE_MAXIMUM = (1 << 16) - 1
"""Rows or columns: `unsigned short` in `struct winsize`."""


def is_master(descriptor: int) -> bool:
    """Whether it is the master of a pseudoterminal, and no other file that somebody sent for one. Raises OSError."""
    try:
        fcntl.ioctl(descriptor, TIOCGPTN, _NUMBER.pack(0))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.EBADF):
            raise
        return False
    return True


def open_peer(master: int) -> int:
    """The other side of the terminal, which does not become the caller's controlling terminal. Raises OSError.

    As long as somebody has it open, a read of the master waits where it would say EIO, since no process has it now.
    """
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def resize(master: int, rows: int, columns: int) -> None:
    """Gives the terminal a size, of which its foreground process group learns by SIGWINCH. Raises OSError."""
    termios.tcsetwinsize(master, (rows, columns))
