"""A container and the caller's terminal or pipes: what it writes comes here, and what is typed goes there.

Each direction has a connection and a thread of its own, as a write to the caller's terminal or to the agent may block.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

from mesocosm.cli.calls import identity, terminal_info
from mesocosm.cli.messages import complain
from mesocosm.cli.signals import forwarded
from mesocosm.cli.terminal import RawTerminal
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError
from mesocosm.client.connection import Connection
from mesocosm.dataclass import dataclass
from mesocosm.errors import FlagError
from mesocosm.linux.descriptors import write_all

DETACH_KEYS = "ctrl-p,ctrl-q"
_HEARTBEAT = 20.0
"""Seconds of silence after which the agent hears that somebody is still there; it believes that for longer."""
_CHUNK = 1 << 16
_DESCRIPTORS = {"STDOUT": 1, "STDERR": 2}

Piece = tuple[int, bytes]
"""What was written, and the descriptor that it is for."""


class DetachKeys:
    """Finds the keys by which somebody leaves a container alone, in what is typed."""

    def __init__(self, text: str) -> None:
        """Of keys such as `ctrl-p,ctrl-q`; with an empty `text` there are none. Raises FlagError."""
        self._keys = bytes(_key(name) for name in text.split(",")) if text else b""
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of it is for the container, and whether the keys were there. Their beginning is held back."""
        data, self._held = self._held + data, b""
        if not self._keys:
            return data, False
        before, found, _ = data.partition(self._keys)
        if found:
            return before, True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False


def _key(name: str) -> int:
    letter = name.removeprefix("ctrl-")
    if len(letter) != 1 or not letter.isascii():
        raise FlagError(f"--detach-keys: {name!r} is no key", f"write them as in {DETACH_KEYS}")
    return ord(letter) if letter == name else ord(letter.upper()) ^ 0x40


def _stay() -> None:
    """Where there are no keys."""


@dataclass(slots=True, eq=False)
class Conversation:
    """What is said to and by one container.

    With `interactive`, the standard input goes there; without that, the container's has its end at once if `silent`.
    With `terminal`, the container has one, whose window is kept as large as ours.
    """

    address: Address
    container_id: str
    interactive: bool
    terminal: bool
    silent: bool = False
    detach_keys: DetachKeys | None = None
    detached: bool = False

    def listen(self, pieces: Iterator[Piece], leave: Callable[[], None] = _stay) -> None:
        """Passes on what the container writes, to its end or until the keys are typed, when `leave` is called.

        Raises AgentError, and OSError for what cannot be written here.
        """
        with RawTerminal(0 if self.interactive and self.terminal else -1) as terminal:
            typing = _Typing(self, terminal, leave)
            _on_signals(terminal, typing)
            if self.interactive or self.terminal or self.silent:
                typing.start()
            try:
                for descriptor, data in pieces:
                    write_all(descriptor, data)
            except AgentError:
                if not self.detached:
                    raise


def tell_of_leaving(container_id: str) -> None:
    """Says, below what is on the screen, that a container goes on."""
    write_all(2, b"\n")
    complain(f"detached from {container_id}, which goes on")


def pieces_of(messages: Iterator[Json]) -> Iterator[Piece]:
    """What a container writes, of the messages of a stream."""
    for message in messages:
        if message["type"] == "DATA":
            data = message["data"]
            yield _DESCRIPTORS[data["type"]], base64.b64decode(data["data"])


class _Typing(threading.Thread):
    """Sends the size of the window and what is typed, until the program ends."""

    def __init__(self, conversation: Conversation, terminal: RawTerminal, leave: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._conversation = conversation
        self._terminal = terminal
        self._leave = leave
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._waking, False)

    def wake(self) -> None:
        """Says that the window may have another size; for handlers of signals."""
        with contextlib.suppress(BlockingIOError):  # It is awake.
            os.write(self._waking, b"w")

    def run(self) -> None:
        """Says so where nothing can be typed, and lets keys such as ^C be for this program then."""
        conversation = self._conversation
        try:
            with Connection(conversation.address) as connection:
                connection.send("ATTACH_CONTAINER_INPUT", self._messages(connection))
        except AgentError as error:
            if conversation.interactive:
                self._terminal.restore()
                complain(f"nothing can be typed: {error}")
        if conversation.detached:
            self._leave()

    def _messages(self, connection: Connection) -> Iterator[Json]:
        conversation = self._conversation
        yield {"type": "CONTAINER_ID", "container_id": identity(conversation.container_id)}
        if conversation.terminal:
            yield _window()
        if conversation.silent and not conversation.interactive:
            yield _typed(b"")
        sources = [self._woken, *([0] if conversation.interactive else [])]
        while not conversation.detached:
            ready, _, _ = select.select([*sources, *connection.answering()], [], [], _HEARTBEAT)
            if not {0, self._woken}.issuperset(ready):
                return
            if not ready:
                yield _control({"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": int(_HEARTBEAT * 1e9)}}})
            if self._woken in ready:
                os.read(self._woken, _CHUNK)
                yield _window()
            if 0 in ready:
                data = os.read(0, _CHUNK)
                if not data:
                    sources.remove(0)
                yield from self._typed(data)

    def _typed(self, data: bytes) -> Iterator[Json]:
        """What is said of some input, of which nothing is the end; it may be the detach keys."""
        conversation = self._conversation
        if data and conversation.detach_keys is not None:
            data, conversation.detached = conversation.detach_keys.feed(data)
            if not data:
                return
        yield _typed(data)


def _on_signals(terminal: RawTerminal, typing: _Typing) -> None:
    """Sees to it that both terminals stay alike, and that ours is given back as it was."""

    def resized(*_: object) -> None:
        typing.wake()

    def continued(*_: object) -> None:
        terminal.apply()
        typing.wake()

    def ended(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    handlers: dict[int, Callable[[int, object], None]] = {signal.SIGWINCH: resized, signal.SIGCONT: continued}
    handlers |= {number: ended for number in forwarded() if signal.getsignal(number) is signal.SIG_DFL}
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _process_io(message: Json) -> Json:
    return {"type": "PROCESS_IO", "process_io": message}


def _control(control: Json) -> Json:
    return _process_io({"type": "CONTROL", "control": control})


def _window() -> Json:
    return _control({"type": "TTY_INFO", "tty_info": terminal_info()})


def _typed(data: bytes) -> Json:
    return _process_io({"type": "DATA", "data": {"type": "STDIN", "data": base64.b64encode(data).decode()}})
