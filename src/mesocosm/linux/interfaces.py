"""Interfaces in a network namespace, made by rtnetlink(7)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable

from mesocosm.linux.namespaces import Namespace, enter

NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_NEWADDR = 16, 20
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 18, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")
"""`struct nlmsghdr` of <linux/netlink.h>."""
_LINK = struct.Struct("=BxHiII")
"""`struct ifinfomsg` of <linux/rtnetlink.h>."""
_ADDRESS = struct.Struct("=BBBBI")
"""`struct ifaddrmsg` of <linux/if_addr.h>."""
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_ROOM = 1 << 14
_ALIGNMENT = 4


def restore(namespace: str, name: str, addresses: Iterable[str]) -> None:
    """Makes sure that the namespace at that path has an interface `name`, with `addresses` and their prefixes.

    Where there is none, it is one end of a new veth. The calling thread is in that namespace from then on, and is to do
    nothing else. Raises OSError.
    """
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(descriptor, Namespace.NETWORK)
    finally:
        os.close(descriptor)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE) as line:
        kind = _attribute(IFLA_LINKINFO, _attribute(IFLA_INFO_KIND, b"veth"))
        link = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(IFLA_IFNAME, name.encode() + b"\0") + kind
        _make(line, RTM_NEWLINK, link)
        index = socket.if_nametoindex(name)
        for address in map(ipaddress.ip_interface, addresses):
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            content = _ADDRESS.pack(family, address.network.prefixlen, 0, 0, index)
            packed = address.ip.packed
            _make(line, RTM_NEWADDR, content + _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed))


def _make(line: socket.socket, kind: int, content: bytes) -> None:
    """Has the kernel make something, unless there is one. Raises OSError."""
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    line.send(_HEADER.pack(_HEADER.size + len(content), kind, flags, 0, 0) + content)
    code = -_ERROR.unpack_from(line.recv(_ROOM), _HEADER.size)[0]
    if code not in (0, errno.EEXIST):
        raise OSError(code, os.strerror(code))


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % _ALIGNMENT)
