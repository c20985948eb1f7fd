"""How much of what was written to a socket is still with this machine's kernel."""

from __future__ import annotations

import fcntl
import struct
import sys
import termios

_COUNT = struct.Struct("=i")


def unsent(descriptor: int) -> int:
    """Bytes that the other end of a TCP connection has not taken (tcp(7), SIOCOUTQ); 0 where nothing tells.

    Of a Unix socket it is the memory that these take. Raises OSError.
    """
    if sys.platform != "linux":
        return 0
    return int(_COUNT.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(_COUNT.size)))[0])
