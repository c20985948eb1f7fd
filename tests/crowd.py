"""Clients of ATTACH_CONTAINER_OUTPUT in a process of their own, as many as are wanted: `python -m tests.crowd`.

Run as `crowd HOST PORT CONTAINER CLIENTS`. It writes a line when all are attached, and one in the end, of JSON: how
many clients ended in which way. That is `SHA256 LENGTH` of the standard output, `other` where it is not the same as for
the others, or `cut`. What is the same is hashed once: to compare takes a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections import Counter

_HEADERS = (
    "Host: x",
    "Content-Type: application/json",
    "Accept: application/recordio",
    "Message-Accept: application/x-protobuf",
)
_VARINT = rb"[\x80-\xff]*[\x00-\x7f]"
_HEAD = re.compile(
    rb"(?:\r\n)?(?:(?P<end>0\r\n\r\n)|[0-9a-f]+\r\n\d+\n(?:"
    rb"\x08\x01\x12"
    + _VARINT
    + rb"\x08\x02\x12(?P<data>"
    + _VARINT
    + rb")|\x08\x02\x1a(?P<control>"
    + _VARINT
    + rb")))"
)
"""What is before each piece of data: the lengths of a chunk (RFC 9112) and of a record, and fields of `ProcessIO`."""
_MOST = 64
"""Bytes that it has."""


class Client(asyncio.BufferedProtocol):
    """Looks at what comes, as it comes: to keep it until a record is complete takes longer than anything else."""

    buffer = bytearray(1 << 18)
    """Everybody's, as nothing stays in it."""
    known = bytearray()
    """What the first one has got so far."""

    def __init__(self, call: bytes) -> None:
        self.attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._call = call
        self._head = b""
        self._length = 0
        self._is_same = True
        self._left = 0
        self._is_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        head = "\r\n".join(("POST /api/v1 HTTP/1.1", *_HEADERS, f"Content-Length: {len(self._call)}"))
        transport.write(head.encode() + b"\r\n\r\n" + self._call)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        position = 0
        with memoryview(self.buffer) as view:
            while position < nbytes:
                if self._left:
                    until = min(position + self._left, nbytes)
                    self._take(view[position:until])
                    position = until
                else:
                    position = self._parse(bytes(view[position : min(position + _MOST, nbytes)]), position)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result("cut")

    def _take(self, data: memoryview) -> None:
        self._left -= len(data)
        if self._is_data:
            missing = max(self._length + len(data) - len(self.known), 0)
            self.known += data[len(data) - missing :]
            self._is_same &= self.known[self._length : self._length + len(data)] == data
            self._length += len(data)

    def _parse(self, data: bytes, position: int) -> int:
        """Where the data begins whose head ends in here; or the end of this, if it does not."""
        known, self._head = len(self._head), self._head + data
        if not self.attached.done():
            before, _, after = self._head.partition(b"\r\n\r\n")
            if len(before) == len(self._head):
                return position + len(data)
            assert before.startswith(b"HTTP/1.1 200 "), before
            self.attached.set_result(None)
            self._head = b""
            return position + len(data) - len(after)
        if (found := _HEAD.match(self._head)) is None:
            assert len(self._head) <= _MOST, self._head
            return position + len(data)
        self._head = b""
        if found["end"]:
            self.ended.set_result(str(self._length) if self._is_same else "other")
        else:
            self._is_data = found["data"] is not None
            self._left = _number(found["data"] or found["control"])
        return position + found.end() - known


def _number(varint: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(varint))


async def main(host: str, port: str, container: str, clients: str) -> None:
    identity = {"container_id": {"value": container}}
    call = json.dumps({"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": identity}).encode()
    loop = asyncio.get_running_loop()
    crowd = []
    for _ in range(int(clients)):
        _, client = await loop.create_connection(lambda: Client(call), host, int(port))
        crowd.append(client)
    await asyncio.gather(*(client.attached for client in crowd))
    _say("attached")
    ends = Counter(await asyncio.gather(*(client.ended for client in crowd)))
    _say(json.dumps({_hashed(end): count for end, count in ends.items()}))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _hashed(end: str) -> str:
    if not end.isdecimal():
        return end
    return f"{hashlib.sha256(memoryview(Client.known)[: int(end)]).hexdigest()} {end}"


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
