"""HTTP/1.1 as far as executors and their checks need it: requests over a connection, one after the other (RFC 9112).

A name is never looked up: that would load libraries, which are the container's where an executor runs.
"""

from __future__ import annotations

import asyncio
import codecs
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

_LONGEST = 64 << 10
"""Of a line, and of what is read at once, in bytes."""
_MOST_HEADERS = 100
_NO_CONTENT = (204, 304)

codecs.lookup("idna")  # By which ssl writes the name of a server. In a container with an image nothing can be loaded.


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: an IP address and a port, or the `path` of a socket; with `tls`, encrypted.

    `name` is what a request calls the host, if it is not the address.
    """

    host: str = ""
    port: int = 0
    path: str | None = None
    tls: ssl.SSLContext | None = None
    name: str | None = None

    @property
    def authority(self) -> str:
        """What a request names as its host."""
        if self.path is not None:
            return "localhost"
        host = self.name or self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def make_socket(self) -> socket.socket:
        """One of the family that it takes. Raises OSError."""
        family = socket.AF_UNIX if self.path is not None else socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.socket(family, socket.SOCK_STREAM)

    async def create(self) -> socket.socket:
        """A socket that can be connected to it. Raises OSError."""
        return self.make_socket()

    async def connect(self) -> socket.socket:
        """A connected socket that does not block. Raises OSError."""
        line = await self.create()
        try:
            line.setblocking(False)
            target = (self.host, self.port) if self.path is None else self.path
            await asyncio.get_running_loop().sock_connect(line, target)
        except BaseException:
            line.close()
            raise
        return line


@dataclass(slots=True)
class Response:
    """The answer to a request. Its body is to be read before the next."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes] = field(repr=False)

    async def read(self, most: int = 4 << 20) -> bytes:
        """The whole body. Raises ConnectionError if it breaks off or is longer than `most` bytes."""
        data = bytearray()
        async for part in self.body:
            data += part
            if len(data) > most:
                raise ConnectionError(f"the answer is longer than {most} bytes")
        return bytes(data)


class Connection:
    """A connection to a server. Everything raises OSError, ConnectionError for what is not HTTP."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connects."""
        line = await address.connect()
        try:
            name = None if address.tls is None else address.host
            reader, writer = await asyncio.open_connection(
                sock=line, limit=_LONGEST, ssl=address.tls, server_hostname=name
            )
        except BaseException:
            line.close()
            raise
        return cls(address, reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """Sends a request, and returns the answer as soon as its headers have come."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._address.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()
        while (response := await self._response(method)).status < 200:
            pass  # Only says that there will be another.
        return response

    async def _response(self, method: str) -> Response:
        version, _, rest = (await self._line()).partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
            raise ConnectionError("the answer is not HTTP")
        headers: dict[str, str] = {}
        while line := await self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
            if len(headers) > _MOST_HEADERS:
                raise ConnectionError("the answer has too many headers")
        code = int(status)
        empty = method == "HEAD" or code < 200 or code in _NO_CONTENT
        return Response(code, headers, self._exactly(0) if empty else self._body(headers))

    def _body(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        if "content-length" in headers:
            return self._exactly(_number(headers["content-length"], 10))
        return self._rest()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := _number((await self._line()).partition(";")[0].strip(), 16):
            async for part in self._exactly(size):
                yield part
            await self._line()
        while await self._line():
            pass  # Trailers.

    async def _exactly(self, length: int) -> AsyncIterator[bytes]:
        while length:
            if not (part := await self._reader.read(min(length, _LONGEST))):
                raise ConnectionError("the connection was closed within an answer")
            length -= len(part)
            yield part

    async def _rest(self) -> AsyncIterator[bytes]:
        while part := await self._reader.read(_LONGEST):
            yield part

    async def _line(self) -> str:
        try:
            line = await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise ConnectionError("the connection was closed, or sends what is not HTTP") from None
        return line.rstrip(b"\r\n").decode("latin-1")


def _number(text: str, base: int) -> int:
    """Raises ConnectionError."""
    try:
        if not (text.isascii() and text.isalnum()):
            raise ValueError(text)
        return int(text, base)
    except ValueError:
        raise ConnectionError("the answer has a length that is no number") from None
