"""Reading and writing the caller's descriptors, whatever others have made of them."""

from __future__ import annotations

import os
import select


def write_all(target: int, data: bytes) -> None:
    """Writes all of it, also to a descriptor that somebody made non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(target, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(target, select.POLLOUT)
            poll.poll()
