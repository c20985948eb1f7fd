"""Writing to the log of a container, as well as that can be done: neither a full disk nor a reader stops anybody."""

from __future__ import annotations

import errno

from mesocosm.linux.descriptors import write_all

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE, errno.EPIPE)
"""What `append` may raise because there is no room, or nobody reads it."""
_PATIENCE = 5000
"""Milliseconds that a pipe is waited for which takes nothing."""


def append(descriptor: int, data: bytes) -> None:
    """Writes all of it, to a file or to a pipe that is not blocking. Raises OSError; a part may be written then."""
    try:
        write_all(descriptor, data, _PATIENCE)
    except BlockingIOError:
        raise OSError(errno.EIO, "nothing is read from its pipe") from None
