"""The agent's side of a container's keeper: starts it, finds it again, and asks it for what it holds."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from pathlib import Path
from typing import Self

from mesocosm.errors import ContainerError
from mesocosm.launcher.client import LauncherProcess
from mesocosm.linux import descriptors, terminal
from mesocosm.switchboard import keeper
from mesocosm.switchboard.keeper import ATTACH, END, FAREWELL

logger = logging.getLogger(__name__)

_NAME = "keeper.sock"
_MODE = 0o600
_PATIENCE = 30.0
"""Seconds that a keeper may take for an answer, or to its end when the container has ended."""


class KeeperClient:
    """A connection to the keeper of one container. `gone` is resolved when that has ended: whether it said so."""

    def __init__(self, connection: socket.socket, *, is_terminal: bool) -> None:
        """Takes over the connection."""
        connection.setblocking(False)
        self.is_terminal = is_terminal
        self.gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._answers: deque[asyncio.Future[tuple[bytes, list[int]]]] = deque()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._read)

    @classmethod
    async def start(
        cls, launcher: LauncherProcess, directory: Path, init: int, held: int, log: int | None
    ) -> KeeperClient:
        """Starts a keeper of what is `held`: the master of a terminal with a `log`, else the end of a pipe.

        `init` is a pidfd. Raises OSError or ContainerError.
        """
        kind = keeper.PIPE if log is None else keeper.TERMINAL
        connection = _socket()
        try:
            with _socket() as listener, descriptors.socket_path(directory, _NAME) as address:
                listener.bind(address)
                Path(address).chmod(_MODE)
                listener.listen()
                connection.connect(address)
                passed = (listener.fileno(), init, held, *(() if log is None else (log,)))
                (await launcher.fork_program(keeper.command(kind), passed)).close()
        except BaseException:
            connection.close()
            raise
        return cls(connection, is_terminal=log is not None)

    @classmethod
    def find(cls, directory: Path, *, is_terminal: bool) -> Self | None:
        """The keeper that an earlier agent has started; None if it is gone. Raises OSError."""
        connection = _socket()
        try:
            with descriptors.socket_path(directory, _NAME) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        return cls(connection, is_terminal=is_terminal)

    async def attach(self) -> int | None:
        """A copy of what is held, which is the caller's; None if that is closed. Raises OSError or ContainerError."""
        word, passed = await self._ask(ATTACH)
        if word != ATTACH or not passed:
            return None
        if self.is_terminal and not terminal.is_master(passed[0]):
            os.close(passed[0])
            raise ContainerError("what the keeper of the container sends is no terminal")
        return passed[0]

    async def end(self) -> None:
        """Has the command read the end of its input. Raises OSError or ContainerError."""
        await self._ask(END)

    async def _ask(self, word: bytes) -> tuple[bytes, list[int]]:
        """Answers come in the order of the questions, also those that nobody waits for any more."""
        if self.gone.done():
            return FAREWELL, []
        try:
            self._connection.send(word)
        except BrokenPipeError:
            return FAREWELL, []
        answer: asyncio.Future[tuple[bytes, list[int]]] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        try:
            await asyncio.wait([answer], timeout=_PATIENCE)
        except asyncio.CancelledError:
            _abandon(answer)
            raise
        if not answer.done():
            _abandon(answer)
            raise ContainerError(f"the keeper of the container has not answered for {_PATIENCE:g} s")
        return answer.result()

    def _read(self) -> None:
        try:
            word, passed = descriptors.receive(self._connection, 1, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            word, passed = b"", []
        if word in (b"", FAREWELL):
            self._end(said_so=word == FAREWELL)
        elif self._answers and not (answer := self._answers.popleft()).done():
            answer.set_result((word, passed))
            return
        for descriptor in passed:  # Who asked for it is gone.
            os.close(descriptor)

    def _end(self, *, said_so: bool) -> None:
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        if not self.gone.done():
            self.gone.set_result(said_so)
        while self._answers:
            if not (answer := self._answers.popleft()).done():
                answer.set_result((FAREWELL, []))

    async def wait(self) -> None:
        """Returns when the keeper has ended, as it does after the container."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.shield(self.gone)
        except TimeoutError:
            logger.error("the keeper of a container that has ended does not end")

    def close(self) -> None:
        """Ends the connection. The keeper goes on."""
        if self._connection.fileno() != -1:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()


def _abandon(answer: asyncio.Future[tuple[bytes, list[int]]]) -> None:
    """Nobody takes it any more, whether or not it has come."""
    if answer.done():
        for descriptor in answer.result()[1]:
            os.close(descriptor)
    else:
        answer.cancel()


def forget(directory: Path) -> None:
    """Removes what is left of a keeper. Raises OSError."""
    (directory / _NAME).unlink(missing_ok=True)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
