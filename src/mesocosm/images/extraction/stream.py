"""The bytes of a layer, from a file that may still grow to the archive in it: read, hashed and inflated ahead.

A thread of its own does that, as hashing and inflating do not need the interpreter, with a few chunks in between.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

import zstandard

from mesocosm.images.errors import DigestError, ImageError

CHUNK = 1 << 18
_AHEAD = 8
"""Chunks that may be ready: enough for two to work at the same time."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}
_WITH_GZIP_HEADER = 31  # zlib.h, inflateInit2: 15 bits of window, and 16 for gzip.
_LARGEST_WINDOW = 1 << 27
"""What `zstd` itself takes without being told otherwise (zstd(1), `--long`), in bytes of memory."""


class Blob(Protocol):
    """What is in a blob, in order."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, empty at the end. Blocks until there are some. Raises ImageError, OSError."""


class Digest:
    """A digest, `sha256:…` or `sha512:…`, of what is yet to be seen."""

    def __init__(self, expected: str) -> None:
        """Raises ImageError for an algorithm that is none of these."""
        algorithm, _, self._value = expected.partition(":")
        if algorithm not in ("sha256", "sha512"):
            raise ImageError(f"{expected!r} is no digest that can be verified", "sha256 and sha512 can be")
        self._hash = hashlib.new(algorithm)
        self.update = self._hash.update

    def verify(self, what: str) -> None:
        """Raises ImageError if it has seen something else."""
        if (found := self._hash.hexdigest()) != self._value:
            raise DigestError(
                f"{what} is not what it should be: its {self._hash.name} is {found}, and not {self._value}",
                "it was damaged or replaced",
            )


class Stream:
    """The archive in a blob, to be read once, from start to end.

    `digest` is that of the blob, `diff_id` of the archive in it. Methods raise ImageError, for what is wrong with it.
    """

    def __init__(self, blob: Blob, digest: str | None, diff_id: str) -> None:
        self._blob = _Hashed(blob, digest)
        self._diff_id = Digest(diff_id)
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._chunk = memoryview(b"")
        self._position = 0
        self._ended = False
        self._thread = threading.Thread(target=self._produce, daemon=True)
        self._thread.start()

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._position + size
        if end <= len(self._chunk):
            data = bytes(self._chunk[self._position : end])
            self._position = end
            return data
        return b"".join(bytes(part) for part in self._parts(size))

    def take_if_any(self, size: int) -> bytes | None:
        """The next `size` bytes; None at the end."""
        return self.take(size) if self._available() else None

    def pour(self, descriptor: int, size: int) -> None:
        """Writes the next `size` bytes to a file. Raises OSError, too."""
        for part in self._parts(size):
            while part:
                part = part[os.write(descriptor, part) :]

    def skip(self, size: int) -> None:
        """Goes past `size` bytes."""
        for _ in self._parts(size):
            pass

    def skip_at_most(self, size: int) -> None:
        """Goes past `size` bytes, or to the end."""
        while size and self._available():
            step = min(size, len(self._chunk) - self._position)
            self._position += step
            size -= step

    def finish(self) -> None:
        """Reads what follows the archive, and verifies the digests."""
        while self._available():
            self._position = len(self._chunk)
        self._thread.join()
        self._blob.verify()
        self._diff_id.verify("what is unpacked")

    def blame(self, error: ImageError) -> ImageError:
        """What to tell of an `error` in the archive: that the layer is another one, if it is."""
        try:
            while self._available():
                self._position = len(self._chunk)
            self._blob.verify()
        except DigestError as mismatch:
            return mismatch
        except ImageError:
            pass
        return error

    def _parts(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._available():
                raise ImageError("the archive is truncated", "it was damaged, or is not complete")
            part = self._chunk[self._position : self._position + size]
            self._position += len(part)
            size -= len(part)
            yield part

    def _available(self) -> bool:
        """Whether there is anything more; then there is in this chunk."""
        while self._position == len(self._chunk) and not self._ended:
            chunk = self._queue.get()
            if isinstance(chunk, BaseException):
                self._ended = True
                raise chunk
            self._ended = chunk is None
            self._chunk, self._position = memoryview(chunk or b""), 0
        return self._position < len(self._chunk)

    def _produce(self) -> None:
        try:
            for chunk in _inflated(self._blob):
                self._diff_id.update(chunk)
                self._queue.put(chunk)
            self._queue.put(None)
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            self._queue.put(ImageError(f"the layer cannot be decompressed: {error}", "it is damaged"))
        except BaseException as error:  # noqa: BLE001 - it is raised where the archive is read.
            self._queue.put(error)


class _Hashed:
    """A blob, with the digest of what was read of it."""

    def __init__(self, blob: Blob, digest: str | None) -> None:
        self._read: Callable[[int], bytes] = blob.read
        self._digest = None if digest is None else Digest(digest)

    def read(self, size: int = CHUNK) -> bytes:
        data = self._read(size)
        if self._digest is not None:
            self._digest.update(data)
        return data

    def verify(self) -> None:
        """Reads what is left, and verifies the whole."""
        while self.read():
            pass
        if self._digest is not None:
            self._digest.verify("the layer")


def _inflated(blob: _Hashed) -> Iterator[bytes]:
    """The archive in `blob`: how it is compressed its first bytes tell, as media types are not reliable."""
    start = _first(blob)
    if start.startswith(_GZIP):
        yield from _gunzipped(start, blob)
    elif start.startswith(_ZSTD):
        yield from _zstd(start, blob)
    elif name := next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None):
        raise ImageError(f"the layer is compressed by {name}", "gzip and zstd are what images may use")
    else:
        while start:
            yield start
            start = blob.read(CHUNK)


def _first(blob: _Hashed) -> bytes:
    start = b""
    while len(start) < max(map(len, _OTHERS)) and (data := blob.read(CHUNK)):
        start += data
    return start


def _gunzipped(data: bytes, blob: _Hashed) -> Iterator[bytes]:
    """What several members that follow each other have, in chunks of a limited size, however much a member grows."""
    while data:
        inflate = zlib.decompressobj(_WITH_GZIP_HEADER)
        while not inflate.eof:
            if not data and not (data := blob.read(CHUNK)):
                raise EOFError("it is truncated")
            if chunk := inflate.decompress(data, CHUNK):
                yield chunk
            data = inflate.unconsumed_tail
        data = (inflate.unused_data or blob.read(CHUNK)).lstrip(b"\0")  # Padding, which gzip(1) ignores as well.


def _zstd(data: bytes, blob: _Hashed) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    with decompressor.stream_reader(cast("IO[bytes]", _Prefixed(data, blob)), read_across_frames=True) as reader:
        while chunk := reader.read(CHUNK):
            yield chunk


class _Prefixed:
    """A file of which the first bytes have been read already."""

    def __init__(self, data: bytes, blob: _Hashed) -> None:
        self._data = data
        self._blob = blob

    def read(self, size: int) -> bytes:
        if self._data:
            data, self._data = self._data[:size], self._data[size:]
            return data
        return self._blob.read(size)
