"""Work that one process at a time does: the others wait for it in their event loops, and then look what there is.

A lock (flock(2)) can only be awaited by a thread that blocks, and that nobody can stop. So what is locked is a fifo:
whoever has the lock has the fifo open for writing, and the others for reading, whom the kernel tells when no writer is
left (POLLHUP, poll(2)), however that ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from mesocosm.linux.lock import try_lock
from mesocosm.linux.poll import readable


@contextlib.asynccontextmanager
async def turn(path: Path, wait: Callable[[], None]) -> AsyncIterator[None]:
    """Has the turn that `path` stands for, after all who had it before. Calls `wait` each time that it has to wait.

    There is a fifo at `path` meanwhile, which a crash leaves there. Raises OSError.
    """
    descriptor = await _take(path, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def remove_abandoned(path: Path) -> None:
    """Removes what a process has left that was killed in its turn. Raises OSError."""
    try:
        reader = _open(path)
    except FileNotFoundError:
        return
    try:
        if try_lock(reader):
            path.unlink()
    finally:
        os.close(reader)


async def _take(path: Path, wait: Callable[[], None]) -> int:
    """A descriptor of the fifo, open for writing and locked."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        try:
            reader = _open(path)
        except FileNotFoundError:
            continue  # Its turn was over just now.
        try:
            if (writer := _try(reader)) != -1:
                return writer
            wait()
            # From here on this one had a writer, if only for a moment: so there will be an end, or has been.
            await readable(reader)
        finally:
            os.close(reader)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _try(reader: int) -> int:
    """The same fifo for writing, locked; -1 if somebody else has it, or had it last and removed it."""
    with contextlib.ExitStack() as opened:
        writer = os.open(f"/proc/self/fd/{reader}", os.O_RDWR | os.O_CLOEXEC)  # At its path may be the next one.
        opened.callback(os.close, writer)
        if not try_lock(writer):
            return -1
        opened.pop_all()
        return writer
