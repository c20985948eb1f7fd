"""The download of a blob into a file that another process reads meanwhile.

What has come stays in the file when the download does not get to its end, and the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable

from mesocosm.images.registry.answers import RegistryError, Retries
from mesocosm.images.registry.client import RegistryClient
from mesocosm.linux.descriptors import write_all_at

_CHUNK = 1 << 18
_PARTIAL = 206
_RANGE = re.compile(r"bytes (\d+)-")


class Download:
    """The blob `digest` of `size` bytes, into the open file `descriptor`, which may have its beginning already."""

    def __init__(
        self, client: RegistryClient, digest: str, size: int, descriptor: int, tell: Callable[[int], None]
    ) -> None:
        self._client = client
        self._digest = digest
        self._size = size
        self._descriptor = descriptor
        self._tell = tell
        self.available = os.fstat(descriptor).st_size
        """Bytes that the file has."""
        if self.available > size:
            os.ftruncate(descriptor, 0)
            self.available = 0
        self.resumed = self.available > 0
        self._grown = asyncio.Event()
        self._error: Exception | None = None
        tell(self.available)

    async def run(self) -> None:
        """Downloads it. Whatever goes wrong is raised by `growth`, and by this."""
        try:
            await self._run()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._grown.set()

    async def growth(self) -> AsyncGenerator[int, None]:
        """How many bytes there are, each time that there are more, to the end. Raises RegistryError, OSError."""
        told = -1
        while told < self._size:
            if self._error is not None:
                raise self._error
            if told < self.available:
                told = self.available
                yield told
                continue
            self._grown.clear()
            await self._grown.wait()

    async def _run(self) -> None:
        retries = Retries()
        while self.available < self._size:
            before = self.available
            try:
                await self._go_on()
            except RegistryError as error:
                if self.available > before:
                    retries.reset()
                await retries.after(error)

    async def _go_on(self) -> None:
        start = self.available
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._client.open(f"blobs/{self._digest}", headers) as response:
            skipped = start
            if response.status == _PARTIAL:
                match = _RANGE.match(response.headers.get("Content-Range", ""))
                if match is None or int(match[1]) != start:
                    raise RegistryError(f"{self._client.host} sends another part of the layer than it was asked for")
                skipped = 0
            async for chunk in self._client.chunks(response, _CHUNK):
                # A server that knows no ranges begins at the beginning.
                data, skipped = chunk[skipped:], max(0, skipped - len(chunk))
                if data:
                    await self._write(data)
        if self.available < self._size:
            raise RegistryError(
                f"{self._client.host} sends {self.available} bytes of a layer of {self._size}", transient=True
            )

    async def _write(self, data: bytes) -> None:
        if self.available + len(data) > self._size:
            raise RegistryError(f"{self._client.host} sends more than the {self._size} bytes of the layer")
        await asyncio.to_thread(write_all_at, self._descriptor, data, self.available)
        self.available += len(data)
        self._tell(len(data))
        self._grown.set()
