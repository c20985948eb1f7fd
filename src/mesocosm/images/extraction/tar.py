"""The members of a tar archive (POSIX pax, GNU, ustar and older ones), read from a stream in one pass.

Python's `tarfile` takes several times as long for each member, and keeps of pax headers only what is text.

Source: pax in IEEE Std 1003.1; manual of GNU tar, "Basic Tar Format" and "Storing Sparse Files"; libarchive, tar(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from mesocosm.images.errors import ImageError
from mesocosm.images.extraction import headers
from mesocosm.images.extraction.headers import BLOCK, Kind, Member, Part
from mesocosm.images.extraction.stream import Stream

_LARGEST_HEADER = 1 << 20
"""Bytes of a pax header or long name: as Go's archive/tar, and so most other readers of images, has it."""
_MOST_PARTS = 1 << 16
"""Parts of a sparse file."""


class Archive:
    """The archive in `stream`. All raises ImageError for one that is damaged or truncated."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._defaults: dict[bytes, bytes] = {}
        self._data = self._padding = 0
        """Bytes that the stream has before the next header."""

    def __iter__(self) -> Iterator[Member]:
        """The members, in order."""
        while (member := self._next()) is not None:
            yield member

    def write(self, member: Member, descriptor: int) -> None:
        """Writes the data of the member that was the last one, a file, to an empty one. Raises OSError, too."""
        if member.parts is None:
            self._stream.pour(descriptor, self._data)
        else:
            for offset, size in member.parts:
                os.lseek(descriptor, offset, os.SEEK_SET)
                self._stream.pour(descriptor, size)
            os.ftruncate(descriptor, member.size)
        self._data = 0

    def _next(self) -> Member | None:
        self._stream.skip(self._data)
        self._stream.skip_at_most(self._padding)  # Some writers (umoci 0.4) leave out that of the last file.
        self._data = self._padding = 0
        extended: dict[bytes, bytes] = {}
        pairs: list[tuple[bytes, bytes]] = []
        while (block := self._header()) is not None:
            kind = block[156:157]
            if kind in b"xX":
                pairs = list(headers.pax_records(self._content(block)))
                extended.update(pairs)
            elif kind == b"g":
                self._defaults.update(headers.pax_records(self._content(block)))
            elif kind == b"L":
                extended[b"path"] = self._content(block).split(b"\0", 1)[0]
            elif kind == b"K":
                extended[b"linkpath"] = self._content(block).split(b"\0", 1)[0]
            else:
                return self._member(block, {**self._defaults, **extended}, pairs)
        if extended:
            raise ImageError("the archive is truncated: there is nothing after a header of what follows")
        return None

    def _header(self) -> bytes | None:
        """The next header; None at the end, which is an empty block, or nothing at all."""
        block = self._stream.take_if_any(BLOCK)
        if block is None or not block.strip(b"\0"):
            return None
        headers.verify(block)
        return block

    def _content(self, block: bytes) -> bytes:
        size = headers.size_of(block)
        if size > _LARGEST_HEADER:
            raise ImageError(f"the archive has a header of {size} bytes, where {_LARGEST_HEADER} are the most")
        content = self._stream.take(size)
        self._stream.skip(-size % BLOCK)
        return content

    def _member(self, block: bytes, extended: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> Member:
        member = headers.member(block, extended)
        # Links and the like have no data, whatever their headers say: POSIX, and what all writers do today.
        self._data = member.size if member.kind is Kind.FILE else 0
        self._padding = -self._data % BLOCK
        if member.kind is Kind.FILE:
            self._find_parts(member, block, extended, pairs)
        return member

    def _find_parts(
        self, member: Member, block: bytes, extended: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]
    ) -> None:
        """Finds out which parts of a sparse file the archive has, and leaves others as they are."""
        if block[156:157] == b"S":
            parts, member.size = self._old_gnu_parts(block), headers.number(block[483:495])
        elif extended.get(b"GNU.sparse.major") == b"1":
            parts, member.size = self._parts_before_data(), headers.decimal(extended.get(b"GNU.sparse.realsize"))
        elif b"GNU.sparse.numblocks" in extended:
            parts, member.size = headers.pax_parts(pairs), headers.decimal(extended.get(b"GNU.sparse.size"))
        else:
            return
        ends = [0, *(offset + size for offset, size in parts)]
        if any(offset < end for (offset, _), end in zip(parts, ends, strict=False)) or ends[-1] > member.size:
            raise ImageError(f"{member}: the parts of the sparse file are not in order")
        if sum(size for _, size in parts) != self._data:
            raise ImageError(f"{member}: the parts of the sparse file have another size than the data")
        member.parts = tuple(parts)

    def _old_gnu_parts(self, block: bytes) -> list[Part]:
        parts = list(headers.gnu_parts(block[386:482]))
        more = block[482]
        while more:
            block = self._stream.take(BLOCK)
            parts += headers.gnu_parts(block[:504])
            more = block[504]
            _limit(len(parts))
        return parts

    def _parts_before_data(self) -> list[Part]:
        """Format 1.0: numbers, one a line, in as many blocks as they take; first how many parts there are."""
        text = self._map_block()
        while (count := text.find(b"\n")) < 0 or text.count(b"\n") <= 2 * _limit(headers.decimal(text[:count])):
            text += self._map_block()
        numbers = [headers.decimal(line) for line in text.split(b"\n")[1 : 2 * headers.decimal(text[:count]) + 1]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _map_block(self) -> bytes:
        if self._data < BLOCK:
            raise ImageError("the map of a sparse file is truncated")
        self._data -= BLOCK
        return self._stream.take(BLOCK)


def _limit(parts: int) -> int:
    if parts > _MOST_PARTS:
        raise ImageError(f"a sparse file has {parts} parts, where {_MOST_PARTS} are the most")
    return parts
