"""The store's side of the processes that unpack layers: as many as there are CPUs, started when they are needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from mesocosm.flags import DEFAULT_PATH
from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.messages import END, Extract, Extracted, Grown, pack, unpack
from mesocosm.linux import descriptors, helper

_CHUNK = 65536
_MOST_WORKERS = 2
"""More would take more memory than they save time: a pull is to stay below 150 MB."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in the open file `descriptor`, from `offset` on, which stays the caller's.

    `available` bytes of it are there, and that is all unless `growth` tells, again and again, how many there are now.
    `digest` is that of the blob, if anybody knows it. `resumed` is whether some of it is from before, and unverified.
    """

    descriptor: int
    offset: int
    available: int
    digest: str | None = None
    growth: AsyncGenerator[int, None] | None = None
    resumed: bool = False


class Extractors:
    """Workers, started as they are needed, and ended by `close`. Other users of the loop do not wait for them."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._room = asyncio.Semaphore(min(_MOST_WORKERS, os.cpu_count() or 1))

    async def extract(self, blob: Blob, diff_id: str, directory: Path) -> Extracted:
        """Unpacks a layer into an empty directory; it is on the disk then. Raises ImageError, OSError."""
        async with self._room:
            worker = await self._take()
            try:
                result = await worker.extract(blob, diff_id, directory)
            except BaseException:
                await worker.end()
                raise
            self._idle.append(worker)
            return result

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            await worker.end()
        return await _Worker.start()

    async def close(self) -> None:
        """Ends those that have nothing to do. Those that have are ended by the end of what awaits them."""
        while self._idle:
            await self._idle.pop().end()


class _Worker:
    """A process that unpacks layers, see `worker`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls) -> _Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *helper.command("mesocosm.images.extraction.worker", site=True),
                    stdin=theirs.fileno(),
                    env={"PATH": DEFAULT_PATH},
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    def is_alive(self) -> bool:
        """Whether it waits for something to do. Somebody may have killed it."""
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    async def end(self) -> None:
        """Kills it, if it has not ended, and waits for that."""
        self._channel.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.shield(self._process.wait())

    async def extract(self, blob: Blob, diff_id: str, directory: Path) -> Extracted:
        complete = blob.growth is None
        job = Extract(blob.offset, blob.available, complete, blob.digest, diff_id)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            line = pack(job)
            with contextlib.suppress(ConnectionError):  # Why it has ended, `_receive` says.
                descriptors.send(self._channel, line[:1], (blob.descriptor, root))
        finally:
            os.close(root)
        await self._send(line[1:])
        feeding = asyncio.ensure_future(self._feed(blob.growth)) if blob.growth is not None else None
        answering = asyncio.ensure_future(self._receive())
        try:
            if feeding is not None:
                await asyncio.wait((feeding, answering), return_when=asyncio.FIRST_COMPLETED)
                if feeding.done():
                    feeding.result()  # What keeps the blob from growing is the reason.
            result = await answering
        finally:
            for task in (feeding, answering):
                if task is not None:
                    task.cancel()
            await asyncio.gather(*(task for task in (feeding, answering) if task is not None), return_exceptions=True)
        if result.error is not None:
            raise ImageError(result.error, result.hint)
        return result

    async def _feed(self, growth: AsyncGenerator[int, None]) -> None:
        available = 0
        async with contextlib.aclosing(growth):
            async for available in growth:
                await self._send(pack(Grown(available, complete=False)))
        await self._send(pack(Grown(available, complete=True)))

    async def _send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._channel, data)

    async def _receive(self) -> Extracted:
        line = bytearray()
        while not line.endswith(END):
            part = b""
            with contextlib.suppress(ConnectionResetError):
                part = await asyncio.get_running_loop().sock_recv(self._channel, _CHUNK)
            if not part:
                raise ImageError(
                    "the process that unpacks the layer has ended",
                    "its memory may have run out; the log of the kernel says so",
                )
            line += part
        return unpack(line, Extracted)
