"""The sockets of the caller's network namespace, as the kernel lists them (sock_diag(7))."""

from __future__ import annotations

import socket
import struct

from mesocosm.linux import netlink

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
TCP_LISTEN = 10

_REQUEST = struct.Struct("=BBBxI48x")
"""`struct inet_diag_req_v2` of <linux/inet_diag.h>."""
_ANSWER = struct.Struct("=4B2s46x4xIIII")
"""`struct inet_diag_msg`: the port of the socket is in network byte order, and its inode is the last."""


def listening() -> dict[int, int]:
    """The inode of every TCP socket that listens, and its port. Raises OSError."""
    found: dict[int, int] = {}
    with netlink.connect(NETLINK_SOCK_DIAG) as line:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)
            netlink.send(line, SOCK_DIAG_BY_FAMILY, netlink.NLM_F_DUMP, request)
            found |= _answers(line)
    return found


def _answers(line: socket.socket) -> dict[int, int]:
    found: dict[int, int] = {}
    while True:
        for kind, content in netlink.receive(line):
            if kind == netlink.NLMSG_DONE:
                return found
            fields = _ANSWER.unpack_from(content)
            found[fields[-1]] = int.from_bytes(fields[4], "big")
