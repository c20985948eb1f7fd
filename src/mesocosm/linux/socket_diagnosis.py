"""The sockets of the caller's network namespace, as the kernel lists them (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 0x001
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3
TCP_LISTEN = 10

_HEADER = struct.Struct("=IHHII")
"""`struct nlmsghdr` of <linux/netlink.h>."""
_REQUEST = struct.Struct("=BBBxI48x")
"""`struct inet_diag_req_v2` of <linux/inet_diag.h>."""
_ANSWER = struct.Struct("=4B2s46x4xIIII")
"""`struct inet_diag_msg`: the port of the socket is in network byte order, and its inode is the last."""
_ERROR = struct.Struct("=i")
_ROOM = 1 << 16
_ALIGNMENT = 4


def listening() -> dict[int, int]:
    """The inode of every TCP socket that listens, and its port. Raises OSError."""
    found: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as line:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)
            length = _HEADER.size + len(request)
            line.send(_HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + request)
            found |= _answers(line)
    return found


def _answers(line: socket.socket) -> dict[int, int]:
    found: dict[int, int] = {}
    while True:
        for kind, content in _messages(line.recv(_ROOM)):
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                code = -_ERROR.unpack_from(content)[0]
                raise OSError(code, "sock_diag")
            fields = _ANSWER.unpack_from(content)
            found[fields[-1]] = int.from_bytes(fields[4], "big")


def _messages(data: bytes) -> Iterator[tuple[int, memoryview]]:
    rest = memoryview(data)
    while len(rest) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(rest)
        yield kind, rest[_HEADER.size : length]
        rest = rest[-(-length // _ALIGNMENT) * _ALIGNMENT :]
