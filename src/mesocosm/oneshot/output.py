"""The streams of a command that a program runs: what goes in, and a bounded part of what comes out."""

from __future__ import annotations

import asyncio
import os

from mesocosm.linux.descriptors import open_pipe

_CHUNK = 65536


class Collector:
    """Reads a pipe to its end, and keeps the first `most` bytes: a program cannot fill the memory of its caller."""

    def __init__(self, most: int) -> None:
        """Raises OSError."""
        self._most = most
        self._data = bytearray()
        self._source, self.theirs = open_pipe()
        os.set_blocking(self._source, False)
        self.truncated = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._source, self._read)

    def _read(self) -> None:
        """Takes one chunk; the rest waits for its turn."""
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        room = self._most - len(self._data)
        self._data += data[:room]
        self.truncated = self.truncated or len(data) > room

    def close_theirs(self) -> None:
        """Closes the end that the container has."""
        if self.theirs != -1:
            os.close(self.theirs)
            self.theirs = -1

    def finish(self) -> bytes:
        """What was kept, once the container has ended: nothing more can come but what is in the pipe."""
        while self._source != -1:
            try:
                data = os.read(self._source, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                break
            self._keep(data)
        self.close()
        return bytes(self._data)

    def close(self) -> None:
        """Stops reading."""
        self.close_theirs()
        if self._source != -1:
            self._loop.remove_reader(self._source)
            os.close(self._source)
            self._source = -1


class Feeder:
    """Writes bytes to a pipe as fast as the command reads them, and then closes it."""

    def __init__(self, data: bytes) -> None:
        """Raises OSError."""
        self._rest = memoryview(data)
        self.theirs, self._target = open_pipe()
        os.set_blocking(self._target, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_writer(self._target, self._write)

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._target, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # The command does not want it.
            self._rest = self._rest[:0]
        if not self._rest:
            self._close_ours()

    def close_theirs(self) -> None:
        """Closes the end that the container has."""
        if self.theirs != -1:
            os.close(self.theirs)
            self.theirs = -1

    def _close_ours(self) -> None:
        if self._target != -1:
            self._loop.remove_writer(self._target)
            os.close(self._target)
            self._target = -1

    def close(self) -> None:
        """Stops writing."""
        self.close_theirs()
        self._close_ours()
