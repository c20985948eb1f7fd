"""What the fetcher and a worker say to each other, by turns: JSON, a line each, over a socket.

Start, with the sandbox   →
                          ←   Reply: the worker is the container's user
Request                   →
                          ←   Reply                                       and so on
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mesocosm.container import URI
from mesocosm.launcher.info import Credentials

END = b"\n"

Message = TypeVar("Message")


class Action(enum.Enum):
    """What a worker can do with a URI. A descriptor comes with STORE and COPY."""

    OPEN = "OPEN"
    """Opens it, and tells its size if that is known."""
    STORE = "STORE"
    """Writes what was opened to the descriptor, and tells its digest; none if that cannot be written to."""
    FETCH = "FETCH"
    """Writes it, opened before or not, into the sandbox, and unpacks it there."""
    COPY = "COPY"
    """Writes what the descriptor has into the sandbox, or unpacks it there."""


@dataclass(frozen=True, slots=True)
class Start:
    """Whom to become (None: nobody else), the patience with a server in seconds, and the URIs to come."""

    credentials: Credentials | None
    stall_timeout: float
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with a URI."""

    action: Action
    uri: URI


@dataclass(frozen=True, slots=True)
class Reply:
    """How it went: `error`, with a hint or not, or else what was asked for."""

    size: int | None = None
    digest: str = ""
    error: str | None = None
    hint: str | None = None


def pack(message: Start | Request | Reply) -> bytes:
    """The line of a message."""
    return msgspec.json.encode(message) + END


def unpack(line: bytes | bytearray, kind: type[Message]) -> Message:
    """The message of a line. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(line, type=kind)
