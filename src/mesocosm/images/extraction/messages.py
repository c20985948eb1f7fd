"""What the store and a worker that unpacks layers say to each other: JSON, a line each, over a socket.

Extract, with the blob and the directory   →
Grown, as often as there is more to read   →
                                           ←   Extracted, with what failed or not

and so on. With Extract come two descriptors: the file that has the blob, and the empty directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

END = b"\n"
Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Extract:
    """A layer to unpack. Its blob is in the file from `offset` on; `available` of it, all of it if `complete`."""

    offset: int
    available: int
    complete: bool
    digest: str | None
    diff_id: str


@dataclass(frozen=True, slots=True)
class Grown:
    """Bytes of the blob that there are now."""

    available: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Extracted:
    """A layer that is whole, and on the disk: `size` bytes of files.

    `implied` are directories, by path, with no member of their own, so that those of lower layers are what counts;
    `opaque` is whether nothing of lower layers is to be seen.
    """

    size: int = 0
    implied: tuple[bytes, ...] = ()
    opaque: bool = False
    error: str | None = None
    hint: str | None = None


def pack(message: Extract | Grown | Extracted) -> bytes:
    """The line of a message."""
    return msgspec.json.encode(message) + END


def unpack(line: bytes | bytearray, kind: type[Message]) -> Message:
    """The message of a line. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(line, type=kind)
