"""What has been written, of a file that somebody goes on writing to."""

from __future__ import annotations

import base64

from mesocosm.cli import logs
from mesocosm.client import Json
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection


class Growing(Connection):
    """An agent whose file has as much again after each look."""

    def __init__(self, content: bytes) -> None:
        super().__init__(Address.parse("http://127.0.0.1:1"))
        self._content = content

    def call(self, kind: str, fields: Json | None = None, *, patient: bool = False) -> Json:
        assert fields is not None
        begin, end = fields["offset"], fields["offset"] + fields["length"]
        found = {"data": base64.b64encode(self._content[begin:end]).decode(), "size": len(self._content)}
        self._content *= 2
        return found


def test_a_file_that_grows_faster_than_it_is_read_has_an_end() -> None:
    assert b"".join(logs._content(Growing(b"0123456789"), "/c/stdout", 3)) == b"3456789"
