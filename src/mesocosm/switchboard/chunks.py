"""Files that many read at the same time: each part of one is read once for all who are at the same place."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor

from mesocosm.linux.inotify import IN_CLOSE_WRITE, IN_CREATE, IN_MODIFY, IN_MOVED_TO, Notifier

Encode = Callable[[bytes], bytes]
"""What is sent for a part of a file. Whoever passes the same function shares its results."""
Key = tuple[int, int]
"""An inode: its device and its number."""

Place = tuple[int, int]
"""A generation of a file's content, and an offset in it."""

CHUNK = 1 << 18
"""Bytes that are read at once. Parts end at multiples of it, so that all who read on will meet."""
_MOST_KEPT = 8 << 20
"""Bytes of files that are kept for others, besides what was made of them."""
_GATHERING = 0.01
"""Seconds after a change in which more is waited for: what is written in small pieces is not sent in as many."""
_WRITTEN = IN_MODIFY | IN_CLOSE_WRITE
_ENTERED = IN_CREATE | IN_MOVED_TO
_NOT_NOW = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS})


class Chunk:
    """A part of a file, and what is sent for it."""

    __slots__ = ("_encoded", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._encoded: dict[Encode, bytes] = {}

    def encoded(self, encode: Encode) -> bytes:
        """What `encode` makes of it, once for all."""
        if (found := self._encoded.get(encode)) is None:
            found = self._encoded[encode] = encode(self.data)
        return found


class Opened:
    """An open file or directory, which tells when it changes. It is shared, and open as long as it has users."""

    def __init__(self, key: Key, descriptor: int, mask: int, files: SharedFiles) -> None:
        self.key = key
        self.descriptor = descriptor
        self.users = 0
        self._files = files
        self._mask = mask
        self._watch: int | None = None
        self._change: asyncio.Future[None] | None = None

    def change(self) -> asyncio.Future[None]:
        """Done soon after something has changed from now on. Raises OSError."""
        if self._change is None:
            loop = asyncio.get_running_loop()
            change = loop.create_future()
            self._watch = self._files.notifier.watch(self.descriptor, self._mask, lambda: self._changed(loop, change))
            self._change = change
        return self._change

    def release(self) -> None:
        """Has one user less."""
        self.users -= 1
        if self.users == 0:
            self._files.forget(self)
            if self._watch is not None:
                self._files.notifier.forget(self._watch)
            self._close()

    def _changed(self, loop: asyncio.AbstractEventLoop, change: asyncio.Future[None]) -> None:
        loop.call_later(_GATHERING, _resolve, change)
        self._watch = self._change = None

    def _close(self) -> None:
        os.close(self.descriptor)


def _resolve(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)


class SharedFile(Opened):
    """A regular file."""

    def __init__(self, key: Key, descriptor: int, files: SharedFiles) -> None:
        super().__init__(key, descriptor, _WRITTEN, files)
        self._size = 0
        self._generation = next(files.generations)
        self._reading: dict[int, asyncio.Future[bytes]] = {}

    def size(self) -> int:
        """How many bytes there are. Raises OSError."""
        size = os.fstat(self.descriptor).st_size
        if size < self._size:
            self._generation = next(self._files.generations)  # What was read before is not there any more.
        self._size = size
        return size

    async def chunk(self, offset: int) -> Chunk | None:
        """What there is from `offset` on, up to a multiple of CHUNK; None if there is nothing. Raises OSError."""
        size = self.size()
        if offset >= size:
            return None
        place = (self._generation, offset)
        if (chunk := self._files.kept.get(place)) is None:
            length = min(CHUNK - offset % CHUNK, size - offset)
            data = _read_now(self.descriptor, length, offset)
            if data is None:
                data = await self._read(length, offset)
            if not data:
                return None
            chunk = self._files.kept.put(place, data)
        return chunk

    async def _read(self, length: int, offset: int) -> bytes:
        """From the disk, which may take its time: in a thread, once for all."""
        if (reading := self._reading.get(offset)) is None:
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self._files.threads, os.pread, self.descriptor, length, offset)
            self._reading[offset] = reading
            reading.add_done_callback(lambda _: self._has_read(offset))
        return await asyncio.shield(reading)

    def _has_read(self, offset: int) -> None:
        del self._reading[offset]
        if self.users == 0:
            self._close()

    def _close(self) -> None:
        if not self._reading:  # Else the thread might read what has the same number by then.
            super()._close()


def _read_now(descriptor: int, length: int, offset: int) -> bytes | None:
    """What of a file is in memory already; None where a disk has to be asked. Raises OSError."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    buffer = bytearray(length)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_NOW:
            raise
        return None
    return bytes(memoryview(buffer)[:count])


class Kept:
    """Chunks by their places, the last ones that were asked for."""

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._size = 0
        self._chunks: OrderedDict[Place, Chunk] = OrderedDict()

    def get(self, place: Place) -> Chunk | None:
        """The chunk that is kept for a place."""
        if (chunk := self._chunks.get(place)) is not None:
            self._chunks.move_to_end(place)
        return chunk

    def put(self, place: Place, data: bytes) -> Chunk:
        """Keeps a chunk, and others as long as there is room."""
        if (chunk := self._chunks.get(place)) is None:  # Else somebody else who waited for it was first.
            chunk = self._chunks[place] = Chunk(data)
            self._size += len(data)
        while self._size > self._most:
            self._size -= len(self._chunks.popitem(last=False)[1].data)
        return chunk


class SharedFiles:
    """Everything that is open, by its inode."""

    def __init__(self, threads: Executor) -> None:
        """`threads` are for disks that have to be waited for."""
        self.threads = threads
        self.notifier = Notifier()
        self.kept = Kept()
        self.generations = itertools.count()
        """Names of what files have in them, none of which is used twice: an inode may be, by another container."""
        self._opened: dict[Key, Opened] = {}

    def file(self, descriptor: int) -> SharedFile:
        """A regular file that was opened to read; the descriptor is not the caller's any more. Raises OSError."""
        found = self._share(descriptor, lambda key: SharedFile(key, descriptor, self))
        assert isinstance(found, SharedFile)
        return found

    def directory(self, descriptor: int) -> Opened:
        """A directory, of which it is told when something comes into it. Raises OSError."""
        return self._share(descriptor, lambda key: Opened(key, descriptor, _ENTERED, self))

    def forget(self, opened: Opened) -> None:
        """It is closed."""
        del self._opened[opened.key]

    def close(self) -> None:
        """Tells of no change any more."""
        self.notifier.close()

    def _share(self, descriptor: int, make: Callable[[Key], Opened]) -> Opened:
        try:
            status = os.fstat(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        key = (status.st_dev, status.st_ino)
        if (found := self._opened.get(key)) is None:
            found = self._opened[key] = make(key)
        else:
            os.close(descriptor)
        found.users += 1
        return found
