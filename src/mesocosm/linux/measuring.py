"""The process that measures directories, see `usage`: started with the first one, and anew should it have ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
from pathlib import Path

from mesocosm.linux import helper

_AT_ONCE = 8
"""How many directories are measured at the same time; others wait."""
_LONGEST = 600.0
"""Seconds after which it is given up: somebody may add to a directory faster than it can be read."""


class MeasuringProcess:
    """Measures directories without taking anything of the event loop's time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[int]] = {}

    async def measure(self, directory: Path) -> int:
        """Bytes allocated to the directory. Raises OSError, also if it takes too long."""
        async with self._free:
            await self._start()
            try:
                async with asyncio.timeout(_LONGEST):
                    return await self._ask(directory)
            except TimeoutError:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), str(directory)) from None
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(directory)) from error

    async def _ask(self, directory: Path) -> int:
        number = next(self._numbers)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        self._send({"id": number, "path": str(directory)})
        try:
            return await answer
        except asyncio.CancelledError:
            self._send({"id": number})
            raise
        finally:
            del self._pending[number]

    async def close(self) -> None:
        """Ends the process."""
        if self._process is None or self._reader is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._reader
        await self._process.wait()
        self._process = None

    async def _start(self) -> None:
        async with self._starting:
            if self._reader is not None and not self._reader.done():
                return
            if self._process is not None:
                await self._process.wait()
            self._process = await asyncio.create_subprocess_exec(
                *helper.command("mesocosm.linux.usage"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={},
                cwd="/",
                start_new_session=True,
            )
            self._reader = asyncio.create_task(self._read(self._process))

    def _send(self, request: dict[str, int | str]) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(request).encode() + b"\n")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hands out the answers, until the process ends."""
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            async for line in process.stdout:
                answer = json.loads(line)
                future = self._pending.get(answer["id"])
                if future is None or future.done():
                    continue
                if "error" in answer:
                    future.set_exception(OSError(answer["error"], os.strerror(answer["error"])))
                else:
                    future.set_result(answer["used"])
        for future in self._pending.values():
            if not future.done():
                future.set_exception(OSError(errno.EPIPE, "the process that measures has ended"))
