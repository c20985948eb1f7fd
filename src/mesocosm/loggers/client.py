"""The agent's side of the process that rotates logs: finds it or starts it, and gives it what to copy."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mesocosm.directories import make_directories
from mesocosm.errors import ContainerError
from mesocosm.linux import descriptors, helper
from mesocosm.loggers.rotator import REPLY, is_trusted

_NAME = "logger.sock"
_MODE = 0o600
_PATIENCE = 30.0
"""Seconds. A process that waits for a disk takes long, but who launches a container should not wait forever."""


class RotatorClient:
    """The connection to the process whose socket is in `directory`; as long as it is there, the process is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Connects to the process of an earlier agent, or starts one. Raises OSError or ContainerError."""
        async with self._lock:
            await self._connected()

    async def add(self, request: bytes, passed: Sequence[int]) -> None:
        """Has the pipes copied that are `passed`. Raises OSError for what the process failed at, or ContainerError."""
        async with self._lock:
            answer = await self._ask(await self._connected(), request, passed)
            if answer in (None, errno.EPROTO):
                # It was killed, just ended, or is another version's, and then goes on with what it has.
                answer = await self._ask(await self._launch(), request, passed)
        if answer is None:
            raise ContainerError("the process that rotates logs ends as soon as it is started")
        if answer:
            raise OSError(answer, os.strerror(answer))

    def close(self) -> None:
        """Ends the connection; the process ends when there is nothing more to copy."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connected(self) -> socket.socket:
        return self._connection or self._find() or await self._launch()

    async def _ask(self, connection: socket.socket, request: bytes, passed: Sequence[int]) -> int | None:
        """The errno that the process answers, or 0; None if it is gone."""
        try:
            descriptors.send(connection, request, passed)
            async with asyncio.timeout(_PATIENCE):
                reply = await asyncio.get_running_loop().sock_recv(connection, REPLY.size)
        except (BrokenPipeError, ConnectionResetError):
            reply = b""
        except TimeoutError:
            self.close()
            raise ContainerError(
                f"the process that rotates logs has not answered for {_PATIENCE:g} s",
                "see what `mesocosm-logger` waits for; killed, it is started again",
            ) from None
        except BaseException:
            self.close()  # The answer would be taken for that to the next request.
            raise
        if not reply:
            self.close()
            return None
        return int(REPLY.unpack(reply)[0])

    def _find(self) -> socket.socket | None:
        """A connection to the process that is there, if there is one. Raises OSError."""
        connection = _socket()
        try:
            with descriptors.socket_path(self._directory, _NAME) as address:
                connection.connect(address)
            if is_trusted(connection):
                self._connection = connection
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        finally:
            if self._connection is None:
                connection.close()
        return self._connection

    async def _launch(self) -> socket.socket:
        """A connection to a new process. Raises OSError or ContainerError."""
        self.close()
        make_directories(self._directory)
        connection = _socket()
        try:
            with _socket() as listener, descriptors.socket_path(self._directory, _NAME) as address:
                Path(address).unlink(missing_ok=True)
                listener.bind(address)
                Path(address).chmod(_MODE)
                listener.listen()
                connection.connect(address)  # Accepted when it is ready.
                await _execute(listener.fileno(), self._directory / _NAME)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


async def _execute(listener: int, path: Path) -> None:
    """Starts the process; returns when it has let go of this one. Raises OSError or ContainerError."""
    _, *arguments = helper.command("mesocosm.loggers.rotator", str(listener), str(path))
    starter = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).resolve()),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(listener,),
        start_new_session=True,
        cwd="/",
        env={},
    )
    if status := await starter.wait():
        raise ContainerError(f"the process that rotates logs does not start: exit status {status}")


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made
