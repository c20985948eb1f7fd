"""Interfaces in a network namespace, made by rtnetlink(7)."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable

from mesocosm.linux import netlink
from mesocosm.linux.namespaces import Namespace, enter
from mesocosm.linux.netlink import attribute

NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_NEWADDR = 16, 20
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 18, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
_LINK = struct.Struct("=BxHiII")
"""`struct ifinfomsg` of <linux/rtnetlink.h>."""
_ADDRESS = struct.Struct("=BBBBI")
"""`struct ifaddrmsg` of <linux/if_addr.h>."""


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
    with netlink.connect(NETLINK_ROUTE) as line:
        kind = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"veth"))
        link = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0") + kind
        _make(line, RTM_NEWLINK, link)
        index = socket.if_nametoindex(name)
        for address in map(ipaddress.ip_interface, addresses):
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            content = _ADDRESS.pack(family, address.network.prefixlen, 0, 0, index)
            packed = address.ip.packed
            _make(line, RTM_NEWADDR, content + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed))


def _make(line: socket.socket, kind: int, content: bytes) -> None:
    """Has the kernel make something, unless there is one. Raises OSError."""
    netlink.send(line, kind, netlink.NLM_F_ACK | netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, content)
    with contextlib.suppress(FileExistsError):
        for _ in netlink.receive(line):
            pass
