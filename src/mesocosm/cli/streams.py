"""The streams of a command: pipes or a terminal of the container's, copied from and to the caller's.

The container never gets the caller's own descriptors: its root could open the host's file behind one anew, for
writing, or type into the caller's terminal (TIOCSTI).

A thread copies each stream, since a write to the caller's terminal or pipe may block, and to make those non-blocking
would do so for every other process that has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import threading
from types import TracebackType
from typing import Self

from mesocosm.containerizer.base import ContainerIO
from mesocosm.linux.descriptors import open_pipe, write_all

_CHUNK = 65536
_END_OF_FILE = b"\x04"
_HUNG_UP = errno.EIO
"""What the read of a terminal's master says once nobody has the terminal open."""


class Streams:
    """Standard streams for one container; `start` copies until `finish`."""

    def __init__(self, *, interactive: bool, terminal: bool) -> None:
        """Raises OSError."""
        self._interactive = interactive
        self._stop, self._stopping = os.pipe()
        self._theirs: list[int] = []
        self._stdin: int | None = None
        self._outputs: list[tuple[int, int]] = []
        self._copies: list[_Copy] = []
        if not terminal:
            self._make_pipes()

    def _make_pipes(self) -> None:
        if self._interactive:
            theirs, self._stdin = open_pipe()
            self._theirs.append(theirs)
        for target in (1, 2):
            ours, theirs = open_pipe()
            self._theirs.append(theirs)
            self._outputs.append((ours, target))

    def io(self) -> ContainerIO:
        """What the container gets."""
        if not self._theirs:
            return ContainerIO()
        stdout, stderr = self._theirs[-2:]
        return ContainerIO(self._theirs[0] if self._interactive else None, stdout, stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_theirs()

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def start(self, master: int | None = None) -> None:
        """Begins to copy, once the container has its ends: with `master`, from and to that terminal."""
        self._close_theirs()
        if master is not None:
            self._outputs = [(master, 1)]
            self._stdin = os.dup(master) if self._interactive else None
        for source, target in self._outputs:
            os.set_blocking(source, False)
            self._copies.append(_Copy(source, target, self._stop))
        if self._stdin is not None:
            end = _END_OF_FILE if master is not None else b""
            threading.Thread(target=_feed, args=(self._stdin, end), daemon=True).start()
        for copy in self._copies:
            copy.start()

    async def finish(self) -> OSError | None:
        """Copies what is left in the pipes once the container has ended; returns what kept it from being written."""
        os.close(self._stopping)  # Which wakes whoever polls the other end.
        for copy in self._copies:
            await copy.done.wait()
        return next((copy.error for copy in self._copies if copy.error is not None), None)


class _Copy:
    """Copies from a pipe or terminal to a descriptor of the caller's until the end, or until nobody reads it."""

    def __init__(self, source: int, target: int, stop: int) -> None:
        self._source = source
        self._target = target
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.error: OSError | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while data := _read(self._source, self._stop):
                write_all(self._target, data)
        except BrokenPipeError:
            pass  # As if the command wrote there itself: it gets its SIGPIPE when the source is closed.
        except OSError as error:
            self.error = error
        finally:
            os.close(self._source)
            with contextlib.suppress(RuntimeError):  # The loop has ended with the process.
                self._loop.call_soon_threadsafe(self.done.set)


def _read(source: int, stop: int) -> bytes:
    """What has come; b"" at the end, or if nothing has come when `stop` is readable."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(stop, select.POLLIN)
    while True:
        try:
            return os.read(source, _CHUNK)
        except BlockingIOError:
            if [descriptor for descriptor, _ in poll.poll()] == [stop]:
                return b""
        except OSError as error:
            if error.errno == _HUNG_UP:
                return b""
            raise


def _feed(target: int, end: bytes) -> None:
    """Copies the caller's standard input to the container, and then its end: by closing the pipe, or as a ^D."""
    with contextlib.suppress(OSError):
        while data := os.read(0, _CHUNK):
            write_all(target, data)
        if end and not os.isatty(0):
            write_all(target, end)
    os.close(target)
