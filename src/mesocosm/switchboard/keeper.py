"""The keeper of a container: a process beside it that holds the master of its terminal, or the end of its input.

It outlives the agent, and ends with the container's init. What the terminal says it writes to the log of the container;
what it holds it shares with the agent, by a Unix socket that only the agent's user can open:

    ATTACH   is answered by itself, with a copy of what is held; by END, if that is closed
    END      closes the pipe, and is answered by itself
    FAREWELL is said by the keeper: the init has ended, and all that the terminal has said is in the log

As all that runs beside containers it is forked from the launcher, and so executes no file that they could reach.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys

from mesocosm.launcher.info import Command
from mesocosm.linux import descriptors
from mesocosm.switchboard.log import UNWRITABLE, append

ATTACH, END, FAREWELL = b"A", b"E", b"F"
TERMINAL, PIPE = "terminal", "pipe"
"""What is held, as the argument of the program."""
_LISTENER, _INIT, _HELD, _LOG = range(3, 7)
"""Descriptors, as `arguments` has them."""
_CHUNK = 65536


def command(kind: str) -> Command:
    """The program that holds that."""
    return Command("keeper", ("keeper", kind), program="keeper")


def main(given: Command) -> int:
    """Returns when the container's init has ended. Raises OSError."""
    with socket.socket(fileno=_LISTENER) as listener:
        keeper = Keeper(listener, is_terminal=given.argv[1] == TERMINAL)
        keeper.run()
    return 0


class Keeper:
    """What is held, and who asks for it."""

    def __init__(self, listener: socket.socket, *, is_terminal: bool) -> None:
        """Raises OSError."""
        self._listener = listener
        self._is_terminal = is_terminal
        self._held = _HELD
        self._clients: dict[int, socket.socket] = {}
        self._poll = select.poll()
        for descriptor in (_LISTENER, _INIT):
            self._poll.register(descriptor, select.POLLIN)
        if is_terminal:
            self._hold_terminal()

    def _hold_terminal(self) -> None:
        """Without its other side, one that no process has at the moment would be readable for ever."""
        if sys.platform == "linux":
            from mesocosm.linux.terminal import open_peer

            open_peer(self._held)
        for descriptor in (_HELD, _LOG):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.set_blocking(descriptor, False)
        self._poll.register(_HELD, select.POLLIN)

    def run(self) -> None:
        """Serves until the init has ended."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            if _LISTENER in ready:
                self._accept()
            for descriptor in ready & self._clients.keys():
                self._serve(self._clients[descriptor])
            if self._is_terminal and _HELD in ready:
                self._pump()
            if _INIT in ready:
                break
        while self._is_terminal and self._pump():
            pass
        for client in self._clients.values():
            _say(client, FAREWELL)

    def _pump(self) -> bool:
        """Logs what the terminal says; whether it said anything."""
        try:
            data = os.read(self._held, _CHUNK)
        except BlockingIOError:
            return False
        try:
            append(_LOG, data)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
        return bool(data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        self._clients[client.fileno()] = client
        self._poll.register(client, select.POLLIN)

    def _serve(self, client: socket.socket) -> None:
        """Answers one request."""
        try:
            request = client.recv(1)
        except ConnectionResetError:
            request = b""
        if not request:
            self._poll.unregister(client)
            del self._clients[client.fileno()]
            client.close()
            return
        if request == END and not self._is_terminal:
            self._close()
        if request == ATTACH and self._held != -1:
            _say(client, ATTACH, self._held)
        else:
            _say(client, END)

    def _close(self) -> None:
        if self._held != -1:
            os.close(self._held)
            self._held = -1


def _say(client: socket.socket, word: bytes, *passed: int) -> None:
    """To who may be gone, which is noticed elsewhere."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
        descriptors.send(client, word, passed)
