"""A session: a debug container that somebody uses at this moment, and that ends when he leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mesocosm.container import ContainerID, Termination
from mesocosm.containerizer.base import ContainerIO
from mesocosm.errors import ContainerError
from mesocosm.linux import terminal
from mesocosm.linux.descriptors import open_pipe
from mesocosm.switchboard.input import Input
from mesocosm.switchboard.streams import Chunk, Log, Outputs, Stream

if TYPE_CHECKING:
    from mesocosm.containerizer.base import Starting

logger = logging.getLogger(__name__)

Destroy = Callable[[ContainerID], Awaitable[Termination | None]]


class Session:
    """A debug container and its user, with what he sees and types.

    He is in no hurry: the command waits until what it writes is taken.

    It is closed by who opened it, in any case; only then all is given back.
    """

    def __init__(self, container_id: ContainerID, destroy: Destroy, forget: Callable[[Session], object]) -> None:
        """`destroy` ends the container; `forget` is told that nothing is open any more."""
        self.container_id = container_id
        self._destroy = destroy
        self._forget = forget
        self._ended: asyncio.Future[Termination | None] = asyncio.get_running_loop().create_future()
        self._outputs = Outputs()
        self._log = Log(container_id, {})
        self._input: Input | None = None
        self._peer = -1
        self._reading: asyncio.Task[Chunk | None] | None = None
        self._is_begun = False
        self._is_abandoned = False

    @property
    def input(self) -> Input:
        """Where the user types."""
        assert self._input is not None, "it is connected before it is anybody's"
        return self._input

    def begin(self) -> None:
        """Notes that its container is being launched. Raises ContainerError if nobody waits for that any more."""
        if self._is_abandoned:
            raise ContainerError(f"who wanted to use {self.container_id} is gone")
        self._is_begun = True

    def abandon(self) -> None:
        """Notes that nobody waits for it any more."""
        self._is_abandoned = True

    def connect(self, starting: Starting) -> ContainerIO:
        """Takes the terminal, and the other ends of what the command is to have, which is returned. Raises OSError.

        What it has taken is its own at once, so that `close` gives it back also where the rest fails.
        """
        if starting.terminal is not None:
            self._input = Input(starting.terminal, is_terminal=True)
        logs = {Stream.STDOUT: starting.stdout, Stream.STDERR: starting.stderr}
        self._log = Log(self.container_id, logs)
        if starting.terminal is None:
            return self._connect_pipes()
        self._outputs.add(os.dup(starting.terminal), Stream.STDOUT)
        self._peer = terminal.open_peer(starting.terminal)
        return ContainerIO()

    def _connect_pipes(self) -> ContainerIO:
        with contextlib.ExitStack() as given:
            stdin, ours = open_pipe()
            given.callback(os.close, stdin)
            self._input = Input(ours, is_terminal=False)
            ours, stdout = open_pipe()
            given.callback(os.close, stdout)
            self._outputs.add(ours, Stream.STDOUT)
            ours, stderr = open_pipe()
            self._outputs.add(ours, Stream.STDERR)
            given.pop_all()
        return ContainerIO(stdin, stdout, stderr)

    def end_with(self, termination: asyncio.Future[Termination]) -> None:
        """Takes note of the future that resolves when the container has ended."""

        def ended(_: object) -> None:
            if not self._ended.done():
                self._ended.set_result(
                    None if termination.cancelled() or termination.exception() else termination.result()
                )

        termination.add_done_callback(ended)

    async def ended(self) -> Termination | None:
        """How the container has ended, when it has; None if that is not known."""
        return await asyncio.shield(self._ended)

    async def read(self) -> Chunk | None:
        """The next piece of what the container writes; None at the end. A call that is cancelled loses nothing."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        chunk = await asyncio.shield(self._reading)
        self._reading = None
        return chunk

    async def _read(self) -> Chunk | None:
        chunk = await self._outputs.read(self._ended)
        if chunk is not None:
            await self._log.write(chunk)
        return chunk

    async def close(self) -> None:
        """Ends the container, and gives all back. Can be repeated."""
        try:
            if self._is_begun:  # Else another may have that name.
                await self._destroy(self.container_id)
        except ContainerError as error:
            logger.error("%s", error)
        finally:
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait([self._reading])
                self._reading = None
            self.discard()

    def discard(self) -> None:
        """Closes what is open, of one whose container is gone or never was."""
        self._outputs.close()
        self._log.close()
        if self._input is not None:
            self._input.close()
        if self._peer != -1:
            os.close(self._peer)
            self._peer = -1
        self._forget(self)
