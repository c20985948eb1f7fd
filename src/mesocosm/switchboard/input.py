"""What is typed to a command: into its terminal, or into the pipe that is its standard input."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable

from mesocosm.errors import ContainerError
from mesocosm.linux import terminal

_NOBODY = (errno.EPIPE, errno.EIO)
"""What a write says where nobody has the other end: of a pipe, and of a terminal."""


async def _nothing() -> None:
    pass


class Input:
    """The writing end. Whoever writes waits until the command takes it: nothing is kept in between."""

    def __init__(self, descriptor: int, *, is_terminal: bool, end: Callable[[], Awaitable[None]] = _nothing) -> None:
        """Takes over `descriptor`. `end` is to be called when there is no more: others may have that end, too."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._end = end
        self._waiting: asyncio.Future[None] | None = None
        self.is_terminal = is_terminal

    async def write(self, data: bytes) -> bool:
        """Types all of it, one call after the other; False if the command takes no more."""
        rest = memoryview(data)
        while rest:
            if self._descriptor == -1:
                return False
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                if error.errno not in _NOBODY:
                    raise
                return False
        return True

    async def _writable(self) -> None:
        """Returns when the command has taken something, or nothing can be written any more."""
        loop = asyncio.get_running_loop()
        self._waiting = waiting = loop.create_future()
        loop.add_writer(self._descriptor, _wake, waiting)
        try:
            await waiting
        finally:
            if self._descriptor != -1:
                loop.remove_writer(self._descriptor)

    def resize(self, rows: int, columns: int) -> None:
        """Gives the terminal another size. Raises ContainerError where there is none, or none that has such a size."""
        if not self.is_terminal:
            raise ContainerError("the container has no terminal, whose size could be changed")
        if max(rows, columns) > terminal.SIDE_MAXIMUM:
            raise ContainerError(f"no terminal has {rows} rows and {columns} columns")
        if self._descriptor != -1:
            terminal.resize(self._descriptor, rows, columns)

    async def end(self) -> None:
        """Has the command read the end of its input. A terminal has none: there that is typed, as ^D."""
        if not self.is_terminal:
            self.close()
            await self._end()

    def close(self) -> None:
        """Lets go of it."""
        if self._descriptor == -1:
            return
        if self._waiting is not None:
            self._waiting.get_loop().remove_writer(self._descriptor)
            _wake(self._waiting)
        os.close(self._descriptor)
        self._descriptor = -1


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
