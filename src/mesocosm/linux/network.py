"""Network interfaces: the loopback, addresses (netdevice(7)), and what each has carried (proc_pid_net(5))."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct

from mesocosm.dataclass import dataclass

SIOCSIFFLAGS = 0x8914
SIOCGIFADDR = 0x8915
IFF_UP = 0x1
_REQUEST = struct.Struct("16sh22x")
"""`struct ifreq` of <linux/if.h>, with `ifr_flags`."""
_ADDRESS = struct.Struct("16sH2x4s16x")
"""`struct ifreq` with `ifr_addr`, a `struct sockaddr_in`."""
_GLOBAL = "00"
"""The scope of an address in /proc/net/if_inet6 that is none of the host or the link alone."""
_OF_LOOPBACK = "127."
_HEAD_LINES = 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an interface has received and sent since it was made."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def raise_loopback() -> None:
    """Sets `lo` of the caller's network namespace up, with which it gets 127.0.0.1 and ::1. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        fcntl.ioctl(line, SIOCSIFFLAGS, _REQUEST.pack(b"lo", IFF_UP))


def addresses() -> list[str]:
    """By what the caller's network namespace is reached from others: of IPv4 first, then in the order of interfaces.

    Of IPv4 the first address of each interface. Raises OSError.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(line, SIOCGIFADDR, _ADDRESS.pack(name.encode(), 0, b""))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                    raise
                continue  # It has none, or is gone.
            found.append(socket.inet_ntoa(_ADDRESS.unpack(answer)[2]))
    return [address for address in found if not address.startswith(_OF_LOOPBACK)] + _addresses_of_version_6()


def _addresses_of_version_6() -> list[str]:
    try:
        with open("/proc/net/if_inet6", encoding="utf-8", errors="replace") as file:
            entries = [line.split() for line in file]
    except FileNotFoundError:  # The kernel has no IPv6.
        return []
    entries.sort(key=lambda entry: int(entry[1], 16))
    return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(entry[0])) for entry in entries if entry[3] == _GLOBAL]


def traffic(pid: int) -> dict[str, Traffic]:
    """That of each interface in the network namespace of a process, by its name. Raises OSError."""
    with open(f"/proc/{pid}/net/dev", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()[_HEAD_LINES:]
    found = {}
    for line in lines:
        name, _, numbers = line.rpartition(":")
        values = [int(number) for number in numbers.split()]
        found[name.strip()] = Traffic(*values[:4], *values[8:12])
    return found
