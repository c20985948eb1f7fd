"""What the headers of a tar archive say: see `tar`, which reads them."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mesocosm.images.errors import ImageError

BLOCK = 512
_XATTR = b"SCHILY.xattr."
_SECOND = 10**9

Part = tuple[int, int]
"""Offset and size of a part of a sparse file that is not empty."""


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


_KINDS = {
    b"\0": Kind.FILE,
    b"0": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
    b"7": Kind.FILE,  # Contiguous.
    b"S": Kind.FILE,  # Sparse, of GNU.
}


@dataclass(slots=True)
class Member:
    """One member, with names as they stand in the archive."""

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes of the file, also if it is sparse."""
    mtime: int
    """Nanoseconds since 1970."""
    link: bytes
    device: tuple[int, int]
    """Major and minor number."""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    parts: tuple[Part, ...] | None = None
    """Of a sparse file; the data has one after the other."""

    def __str__(self) -> str:
        return repr(os.fsdecode(self.name))


def verify(block: bytes) -> None:
    """Raises ImageError for a header whose checksum is wrong."""
    field_ = block[148:156]
    try:
        expected = number(field_)
    except ImageError:
        expected = -1
    unsigned = sum(block) - sum(field_) + 8 * ord(" ")
    # Old writers took the bytes to be signed.
    if expected not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])):
        raise ImageError("the archive is damaged: the checksum of a header is wrong, or this is no tar archive")


def member(block: bytes, extended: dict[bytes, bytes]) -> Member:
    """The member of a header, with what `extended`, of pax, says instead. Raises ImageError."""
    kind = _KINDS.get(block[156:157])
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = b"%s/%s" % (prefix, name)
    if kind is None:
        raise ImageError(f"{os.fsdecode(name)!r} is of the unknown type {block[156:157]!r}")
    device = kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
    found = Member(
        name=name,
        kind=kind,
        mode=number(block[100:108]) & 0o7777,
        uid=number(block[108:116]),
        gid=number(block[116:124]),
        size=size_of(block),
        mtime=number(block[136:148]) * _SECOND,
        link=_text(block[157:257]),
        device=(number(block[329:337]), number(block[337:345])) if device else (0, 0),
    )
    if extended:
        _extend(found, extended)
    if found.kind is Kind.FILE and found.name.endswith(b"/"):
        found.kind = Kind.DIRECTORY  # Archives from before POSIX.
    if found.size < 0:
        raise ImageError(f"{found} has a negative size")
    return found


def _extend(found: Member, extended: dict[bytes, bytes]) -> None:
    found.name = extended.get(b"GNU.sparse.name") or extended.get(b"path") or found.name
    found.link = extended.get(b"linkpath") or found.link
    if b"\0" in found.name or b"\0" in found.link:
        raise ImageError(f"{found} has a NUL in its name, or in that of what it links to")
    if value := extended.get(b"size"):
        found.size = decimal(value)
    if value := extended.get(b"uid"):
        found.uid = decimal(value)
    if value := extended.get(b"gid"):
        found.gid = decimal(value)
    if value := extended.get(b"mtime"):
        found.mtime = nanoseconds(value)
    for name, value in extended.items():
        if name.startswith(_XATTR):
            found.xattrs[os.fsdecode(name[len(_XATTR) :])] = value


def size_of(block: bytes) -> int:
    """The size that a header says. Raises ImageError."""
    if (size := number(block[124:136])) < 0:
        raise ImageError("the archive is damaged: a header says a negative size")
    return size


def number(text: bytes) -> int:
    """The number in a field: octal, or of GNU, for great and negative ones, in base 256. Raises ImageError."""
    if text[:1] >= b"\x80":
        value = int.from_bytes(text, "big", signed=False)
        bits = 8 * len(text)
        return value - (1 << bits) if text[0] == 0xFF else value - (1 << (bits - 1))
    try:
        return int(text.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        raise ImageError(f"the archive is damaged: {text!r} is no number") from None


def decimal(text: bytes | None) -> int:
    """A number in a pax header. Raises ImageError."""
    if text is None or not text.isdigit() or len(text) > 20:
        raise ImageError(f"the archive is damaged: {text!r} is no number")
    return int(text)


def nanoseconds(text: bytes) -> int:
    """A time in a pax header, seconds with a fraction or not. Raises ImageError."""
    seconds, _, fraction = text.removeprefix(b"-").partition(b".")
    value = decimal(seconds or b"0") * _SECOND + decimal(fraction[:9].ljust(9, b"0"))
    return -value if text.startswith(b"-") else value


def pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The names and values of a pax header. Raises ImageError."""
    while content.strip(b"\0"):
        length, _, _ = content.partition(b" ")
        end = decimal(length)
        record = content[len(length) + 1 : end]
        name, equals, value = record.partition(b"=")
        if not record.endswith(b"\n") or end > len(content) or not equals:
            raise ImageError("the archive is damaged: a pax header makes no sense")
        yield name, value[:-1]
        content = content[end:]


def pax_parts(pairs: Iterable[tuple[bytes, bytes]]) -> list[Part]:
    """The parts of a sparse file, of a pax header in the formats 0.0 and 0.1 of GNU. Raises ImageError."""
    numbers: list[int] = []
    for name, value in pairs:
        if name == b"GNU.sparse.map":
            numbers = [decimal(text) for text in value.split(b",")]
        elif name in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            numbers.append(decimal(value))
    if len(numbers) % 2:
        raise ImageError("the archive is damaged: the map of a sparse file makes no sense")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def gnu_parts(table: bytes) -> Iterator[Part]:
    """The parts of a sparse file, of a header of GNU or what follows it. Raises ImageError."""
    for start in range(0, len(table), 24):
        offset, size = table[start : start + 12], table[start + 12 : start + 24]
        if not offset.strip(b"\0"):
            return
        yield number(offset), number(size)


def _text(value: bytes) -> bytes:
    return value.split(b"\0", 1)[0]
