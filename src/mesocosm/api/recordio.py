"""RecordIO, the format of streams: each record is its length in decimal digits, a line feed, and its bytes."""

from __future__ import annotations

LIMIT = 4 << 20
"""The most bytes that a record may have, if nothing else is said."""
_DIGITS = 20
"""As many as the greatest 64-bit number has."""


def encode(record: bytes) -> bytes:
    """One record of a stream."""
    return b"%d\n%b" % (len(record), record)


class Decoder:
    """Finds the records in a stream that comes in pieces of any size."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._failed = False

    def feed(self, data: bytes) -> list[bytes]:
        """The records that `data` completes.

        Raises ValueError for a length that is none or exceeds the limit, and then always: what follows has no meaning.
        """
        if self._failed:
            raise ValueError("Decoder is in a FAILED state")
        self._buffer += data
        records = []
        position = 0
        try:
            while (found := self._find(position)) is not None:
                records.append(bytes(self._buffer[found]))
                position = found.stop
        except ValueError:
            self._failed = True
            self._buffer.clear()
            raise
        del self._buffer[:position]
        return records

    def finish(self) -> None:
        """Says that the stream is over. Raises ValueError if that is within a record."""
        if self._buffer:
            raise ValueError("the stream ended within a record")

    def _find(self, position: int) -> slice | None:
        """Where the record is whose length begins at `position`; None if it is not complete. Raises ValueError."""
        end = self._buffer.find(b"\n", position, position + _DIGITS + 1)
        if end < 0 and len(self._buffer) - position <= _DIGITS:
            return None
        header = bytes(self._buffer[position : end if end >= 0 else position + _DIGITS])
        if end < 0 or not header.isdigit():
            raise ValueError(f"Failed to decode length {header.decode('ascii', 'backslashreplace')!r}: it is no number")
        if (length := int(header)) > self._limit:
            raise ValueError(f"a record of {length} bytes is too long: at most {self._limit} are allowed")
        found = slice(end + 1, end + 1 + length)
        return found if found.stop <= len(self._buffer) else None
