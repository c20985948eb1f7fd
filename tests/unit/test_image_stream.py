"""How layers are decompressed: in pieces of a limited size, whatever is in them."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable

import pytest
import zstandard

from mesocosm.images.errors import ImageError
from mesocosm.images.extraction import stream
from mesocosm.images.extraction.stream import CHUNK, Stream
from tests.registry import digest

BOMB = bytes(40 << 20)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bytes], ids=["gzip", "zstd", "plain"])
def test_a_bomb_is_unpacked_in_small_pieces(
    compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    inflated = stream._inflated

    def watched(blob: stream._Hashed) -> object:
        for chunk in inflated(blob):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(stream, "_inflated", watched)
    found = Stream(io.BytesIO(compress(BOMB)), None, digest(BOMB))
    read_all(found, len(BOMB))
    assert sum(sizes) == len(BOMB)
    assert max(sizes) <= CHUNK


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("size", [10, 1000])
def test_what_is_truncated_or_damaged_is_told(compress: Callable[[bytes], bytes], size: int) -> None:
    data = os.urandom(100_000)
    for blob in (compress(data)[:size], compress(data)[:size] + b"damage" * 1000):
        found = Stream(io.BytesIO(blob), None, digest(data))
        with pytest.raises(ImageError, match=r"cannot be decompressed|is truncated|is not what it should be"):
            read_all(found, len(data))


def test_a_window_that_takes_much_memory_is_refused() -> None:
    """A frame may say that it needs 2 GB (RFC 8878, 3.1.1.1.2)."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    blob = compressor.compress(b"x" * 1000) + compressor.flush()
    found = Stream(io.BytesIO(blob), None, digest(b"x" * 1000))
    with pytest.raises(ImageError, match="the layer cannot be decompressed"):
        found.skip(1000)


def read_all(found: Stream, size: int) -> None:
    found.skip(size)
    found.finish()
