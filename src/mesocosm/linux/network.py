"""Network interfaces: setting the loopback up (netdevice(7)), and what each has carried (proc_pid_net(5))."""

from __future__ import annotations

import fcntl
import socket
import struct

from mesocosm.dataclass import dataclass

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
_REQUEST = struct.Struct("16sh22x")
"""`struct ifreq` of <linux/if.h>, with `ifr_flags`."""
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
