"""What a container writes, as it comes, to who takes it piece by piece: what is not taken stays where it is."""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesocosm.container import ContainerID
from mesocosm.linux.poll import any_readable
from mesocosm.switchboard.log import UNWRITABLE, append

logger = logging.getLogger(__name__)

_CHUNK = 65536


class Stream(enum.Enum):
    """One of the two that a command writes to (`ProcessIO.Data.Type`). A terminal is STDOUT."""

    STDOUT = "STDOUT"
    STDERR = "STDERR"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of what a container has written."""

    stream: Stream
    data: bytes


class Outputs:
    """The ends that are read: pipes, or the master of a terminal. One at a time may wait for more."""

    def __init__(self) -> None:
        self._sources: dict[int, Stream] = {}

    def add(self, descriptor: int, stream: Stream) -> None:
        """Takes over a descriptor to read from."""
        os.set_blocking(descriptor, False)
        self._sources[descriptor] = stream

    async def read(self, ended: asyncio.Future[Any]) -> Chunk | None:
        """The next piece; None at the end, which is when `ended` is done and nothing more is there."""
        while True:
            over = ended.done()
            if (chunk := self._take()) is not None:
                return chunk
            if over:
                return None
            await any_readable(self._sources, (ended,))

    def _take(self) -> Chunk | None:
        """What is there, of each stream in its turn."""
        for descriptor, stream in list(self._sources.items()):
            del self._sources[descriptor]
            try:
                data = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                self._sources[descriptor] = stream
                continue
            except OSError as error:
                if error.errno != errno.EIO:  # A terminal that nobody has any more.
                    raise
                data = b""
            if data:
                self._sources[descriptor] = stream  # Now the last one.
                return Chunk(stream, data)
            os.close(descriptor)
        return None

    def close(self) -> None:
        """Closes what is read. A command that writes on gets an error."""
        for descriptor in self._sources:
            os.close(descriptor)
        self._sources.clear()


class Log:
    """Where the output of a container is kept besides, as well as it can be: neither waits for long."""

    def __init__(self, container_id: ContainerID, targets: Mapping[Stream, int]) -> None:
        """Copies the descriptors. Raises OSError."""
        self._container_id = container_id
        self._targets: dict[Stream, int] = {}
        self._failed = False
        try:
            for stream, descriptor in targets.items():
                self._targets[stream] = os.dup(descriptor)
        except OSError:
            self.close()
            raise
        for descriptor in self._targets.values():
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.set_blocking(descriptor, False)

    async def write(self, chunk: Chunk) -> None:
        """Appends a piece. What cannot be written is missing."""
        try:
            await asyncio.to_thread(append, self._targets[chunk.stream], chunk.data)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            if not self._failed:
                logger.warning("the log of %s has gaps: %s", self._container_id, error)
            self._failed = True

    def close(self) -> None:
        """Closes them."""
        for descriptor in self._targets.values():
            os.close(descriptor)
        self._targets.clear()
