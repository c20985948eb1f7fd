"""Locks (flock(2)): one process at a time has that of a file or directory, until it closes it or ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], flags: int = os.O_RDONLY, *, wait: bool = True) -> Iterator[None]:
    """Has the lock of `path`, which is opened with `flags`, for a while. Raises OSError.

    If it may not `wait` for somebody else who has it, that is a BlockingIOError.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def open_locked(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int | None:
    """A descriptor that has the lock of `path`; None if somebody else has it, or there is none. Raises OSError."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, descriptor)
        if not try_lock(descriptor):
            return None
        opened.pop_all()
    return descriptor


def try_lock(descriptor: int) -> bool:
    """Takes the lock of an open file. False if somebody else has it, or had it last and removed the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0
