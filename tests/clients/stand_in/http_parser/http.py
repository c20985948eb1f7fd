"""Stands in for http-parser, a package in C that does not compile for today's Python and that pymesos imports.

Only what pymesos uses of it: the head of a response, and a body in chunks as it comes.
"""

from __future__ import annotations

from email.parser import BytesParser


class HttpParser:
    """A response, of which more and more is known."""

    def __init__(self) -> None:
        self._rest = b""
        self._body = b""
        self._ended = False
        self._status = 0
        self._headers: dict[str, str] | None = None

    def execute(self, data: bytes, length: int) -> int:
        self._rest += data[:length]
        if self._headers is None and b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            line, _, fields = head.partition(b"\r\n")
            self._status = int(line.split()[1])
            self._headers = dict(BytesParser().parsebytes(fields).items())
        if self._headers is not None:
            self._take_chunks() if self.is_chunked() else self._take_rest()
        return length

    def is_headers_complete(self) -> bool:
        return self._headers is not None

    def get_status_code(self) -> int:
        return self._status

    def get_headers(self) -> dict[str, str]:
        return self._headers or {}

    def is_chunked(self) -> bool:
        return self.get_headers().get("Transfer-Encoding") == "chunked"

    def is_partial_body(self) -> bool:
        return bool(self._body)

    def is_message_complete(self) -> bool:
        return self._ended

    def recv_body(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def _take_chunks(self) -> None:
        while b"\r\n" in self._rest:
            size, _, rest = self._rest.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            self._body += rest[:length]
            self._rest = rest[length + 2 :]
            self._ended |= length == 0

    def _take_rest(self) -> None:
        self._body, self._rest = self._body + self._rest, b""
