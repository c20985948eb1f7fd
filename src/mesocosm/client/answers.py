"""Answers of an agent that are JSON: whole ones, and those that come record by record."""

from __future__ import annotations

import json

from mesocosm.api.recordio import Decoder
from mesocosm.client import Json
from mesocosm.client.address import Address


def decoded(address: Address, data: bytes) -> object:
    """What is in a body of JSON. Raises AgentError for one of anything else."""
    try:
        return json.loads(data)
    except ValueError:
        raise address.no_agent("what it answers is no JSON") from None


def decoded_object(address: Address, data: bytes) -> Json:
    """The same, of an object. Raises AgentError."""
    found = decoded(address, data)
    if not isinstance(found, dict):
        raise address.no_agent("what it answers is no object of JSON")
    return found


class Messages:
    """Finds the messages in an answer that goes on, which comes in pieces of any size."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._decoder = Decoder()

    def feed(self, data: bytes) -> list[Json]:
        """Those that `data` completes; nothing is the end. Raises AgentError."""
        try:
            records = self._decoder.feed(data)
            if not data:
                self._decoder.finish()
        except ValueError as error:
            raise self._address.no_agent(str(error)) from None
        return [decoded_object(self._address, record) for record in records]
