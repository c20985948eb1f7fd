"""A reader of Mesos's files of messages that shares nothing with the code that writes them."""

from __future__ import annotations

import struct


def messages(data: bytes) -> list[dict[int, object]]:
    """The messages in a file, each with its length before it, as their fields."""
    found = []
    while data:
        (length,) = struct.unpack("<I", data[:4])
        found.append(fields_of(data[4 : 4 + length]))
        data = data[4 + length :]
    return found


def decode(data: bytes) -> list[tuple[object, object]]:
    """Type and UUID of each StatusUpdateRecord."""
    return [(record[1], fields_of(record[2])[6] if record[1] == 0 else record[3]) for record in messages(data)]


def fields_of(data: object) -> dict[int, object]:
    """The fields of a message of protobuf: varints, doubles and what has a length."""
    assert isinstance(data, bytes)
    found: dict[int, object] = {}
    while data:
        key, data = varint(data)
        match key & 7:
            case 0:
                found[key >> 3], data = varint(data)
            case 1:
                found[key >> 3], data = data[:8], data[8:]
            case 2:
                length, data = varint(data)
                found[key >> 3], data = data[:length], data[length:]
            case other:
                raise AssertionError(other)
    return found


def varint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, data[index + 1 :]
    raise AssertionError("cut off")
