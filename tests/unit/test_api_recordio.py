"""RecordIO: streams in pieces of any size, and what is no stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.api.json import from_json, to_json
from mesocosm.api.recordio import LIMIT, Decoder, encode
from mesocosm.api.v1.agent import ProcessIO
from tests.unit import recorded


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, and the rest."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def test_a_record() -> None:
    assert encode(b"hello") == b"5\nhello"
    assert encode(b"") == b"0\n"


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 30), max_size=80))
def test_records_come_as_they_were_sent(records: list[bytes], sizes: list[int]) -> None:
    decoder = Decoder()
    found = [record for piece in cut(b"".join(map(encode, records)), sizes) for record in decoder.feed(piece)]
    decoder.finish()
    assert found == records


@pytest.mark.parametrize("name", ["attach_output", "session"])
def test_what_mesos_sent(name: str) -> None:
    stream = recorded.body(name)
    decoder = Decoder()
    records = decoder.feed(stream)
    decoder.finish()
    assert records
    for record in records:
        value = json.loads(record)
        message = from_json(value, ProcessIO)
        assert message.data.data in (b"tick\r\n", b"hello\n", b"err\n")
        assert to_json(message) == value
    assert b"".join(map(encode, records)) == stream


@pytest.mark.parametrize(
    "header", [b"\n", b"x\n", b"-1\n", b"+1\n", b" 1\n", b"1 \n", b"0x5\n", b"1.0\n", b"\xff\n", b"1\r\n", b"9" * 21]
)
def test_lengths_that_are_none(header: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(b"1\na") == [b"a"]
    with pytest.raises(ValueError, match=r"^Failed to decode length '.*': it is no number$"):
        decoder.feed(header)
    with pytest.raises(ValueError, match=r"^Decoder is in a FAILED state$"):
        decoder.feed(b"1\na")


def test_a_length_that_does_not_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b"1" * 20) == []
    with pytest.raises(ValueError, match="Failed to decode length"):
        decoder.feed(b"1")


def test_a_record_may_be_as_long_as_the_limit() -> None:
    assert Decoder(5).feed(b"5\nhello") == [b"hello"]
    with pytest.raises(ValueError, match=r"^a record of 6 bytes is too long: at most 5 are allowed$"):
        Decoder(5).feed(b"6\n")
    with pytest.raises(ValueError, match="too long"):
        Decoder().feed(b"%d\n" % (LIMIT + 1))
    with pytest.raises(ValueError, match="too long"):
        Decoder().feed(b"18446744073709551615\n")


@pytest.mark.parametrize("data", [b"1", b"1\n", b"1\na3\nbc"])
def test_a_stream_that_ends_too_soon(data: bytes) -> None:
    decoder = Decoder()
    decoder.feed(data)
    with pytest.raises(ValueError, match=r"^the stream ended within a record$"):
        decoder.finish()


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_any_bytes(pieces: list[bytes]) -> None:
    decoder = Decoder(100)
    failed = False
    for piece in pieces:
        try:
            assert sum(map(len, decoder.feed(piece))) <= sum(map(len, pieces))
            assert not failed
        except ValueError:
            failed = True
