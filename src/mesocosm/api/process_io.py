"""`ProcessIO` messages as the records of a stream: what a container writes, and that the stream goes on."""

from __future__ import annotations

import msgspec

from mesocosm.api import recordio
from mesocosm.api.json import from_json
from mesocosm.api.v1.agent import ProcessIO


def data(name: str, content: bytes, *, as_json: bool) -> bytes:
    """A DATA record of the stream `name`: STDIN, STDOUT or STDERR."""
    if as_json:  # The library writes bytes in base 64, as protobuf's JSON has them.
        message = {"type": "DATA", "data": {"type": name, "data": content}}
        return recordio.encode(msgspec.json.encode(message))
    return recordio.encode(
        ProcessIO(type=ProcessIO.DATA, data=ProcessIO.Data(type=name, data=content)).SerializeToString()
    )


def heartbeat(interval: float, *, as_json: bool) -> bytes:
    """A CONTROL record, which tells how many seconds there are from one of its kind to the next."""
    beat = {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": round(interval * 1e9)}}}
    message = {"type": "CONTROL", "control": beat}
    return recordio.encode(
        msgspec.json.encode(message) if as_json else from_json(message, ProcessIO).SerializeToString()
    )
