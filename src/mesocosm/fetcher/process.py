"""The fetcher's side of a worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator

from mesocosm.fetcher.base import FetchError
from mesocosm.fetcher.messages import END, Reply, Request, Start, pack, unpack
from mesocosm.flags import DEFAULT_PATH
from mesocosm.linux import descriptors, helper

_KEPT = frozenset({"http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"})
"""What a worker has of the environment: how to get to a server, and whom to trust. In either case of letters."""
_CHUNK = 65536


class WorkerProcess:
    """A process that fetches for one container, see `worker`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel

    async def ask(self, message: Start | Request, descriptor: int | None = None) -> Reply:
        """Has it done, with a copy of `descriptor`. Raises FetchError."""
        loop = asyncio.get_running_loop()
        data = pack(message)
        try:
            # The first byte never has to wait: everything before was answered.
            descriptors.send(self._channel, data[:1], () if descriptor is None else (descriptor,))
            await loop.sock_sendall(self._channel, data[1:])
            line = bytearray()
            while not line.endswith(END):
                if not (part := await loop.sock_recv(self._channel, _CHUNK)):
                    raise FetchError(
                        "the process that fetches it has ended", "there may be more in the `stderr` of the container"
                    )
                line += part
        except ConnectionError as error:
            raise FetchError(f"the process that fetches it has ended: {error.strerror}") from error
        reply = unpack(line, Reply)
        if reply.error is not None:
            raise FetchError(reply.error, reply.hint)
        return reply

    def kill(self) -> None:
        """Ends it with all that it started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def started(start: Start, sandbox: int, log: int) -> AsyncIterator[WorkerProcess]:
    """A worker for the open directory `sandbox` that writes to `log`, killed at the end. Raises FetchError, OSError."""
    channel, theirs = socket.socketpair()
    channel.setblocking(False)
    with channel:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *helper.command("mesocosm.fetcher.worker", site=True),
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        worker = WorkerProcess(process, channel)
        try:
            await worker.ask(start, sandbox)
            yield worker
        finally:
            worker.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    return {"PATH": DEFAULT_PATH} | {name: value for name, value in os.environ.items() if name.lower() in _KEPT}
