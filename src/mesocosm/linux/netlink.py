"""Messages to and from the kernel by netlink(7)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP = 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3

_HEADER = struct.Struct("=IHHII")
"""`struct nlmsghdr` of <linux/netlink.h>."""
_ATTRIBUTE = struct.Struct("=HH")
"""`struct nlattr`."""
_ERROR = struct.Struct("=i")
"""The first field of `struct nlmsgerr`."""
_ROOM = 1 << 16
_ALIGNMENT = 4


def connect(family: int) -> socket.socket:
    """A socket of that family of netlink. Raises OSError."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)


def send(line: socket.socket, kind: int, flags: int, content: bytes) -> None:
    """Sends a request of that kind. Raises OSError."""
    line.send(_HEADER.pack(_HEADER.size + len(content), kind, NLM_F_REQUEST | flags, 0, 0) + content)


def receive(line: socket.socket) -> Iterator[tuple[int, memoryview]]:
    """The kind and the content of each message that has come together. Raises OSError for an error that is told."""
    rest = memoryview(line.recv(_ROOM))
    while len(rest) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(rest)
        content = rest[_HEADER.size : length]
        if kind == NLMSG_ERROR and (code := -_ERROR.unpack_from(content)[0]):
            raise OSError(code, os.strerror(code))
        yield kind, content
        rest = rest[-(-length // _ALIGNMENT) * _ALIGNMENT :]


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, with what makes the next one be aligned."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % _ALIGNMENT)
