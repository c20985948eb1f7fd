"""Descriptors: pipes for containers, sockets by their paths, and what is sent over them (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterator, Sequence

from mesocosm.linux.libc import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_pipe() -> tuple[int, int]:
    """A pipe that any user of a container can open again by /dev/stdin, /dev/stdout or /dev/stderr. Raises OSError."""
    reading, writing = os.pipe()
    if sys.platform == "linux":
        os.fchmod(reading, 0o666)
    return reading, writing


def write_all(descriptor: int, data: bytes, patience: int | None = None) -> None:
    """Writes all of it, also where that is non-blocking; then a part may be written when it raises OSError.

    Raises BlockingIOError where nothing is taken for `patience` milliseconds; None waits as long as it takes.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if not poll.poll(patience):
                raise


def write_all_at(descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of it to a file, from the byte `offset` on. Raises OSError, and a part may be written then."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


@contextlib.contextmanager
def socket_path(directory: Path, name: str) -> Iterator[str]:
    """A path of the socket `name` that is never too long: an address has 108 bytes (unix(7)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def send(channel: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends `data`, which is not empty, and copies of `descriptors` with its first byte. Raises OSError."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sent = channel.sendmsg([data], ancillary)
    if sent < len(data):
        channel.sendall(memoryview(data)[sent:])


def receive(channel: socket.socket, length: int, most: int) -> tuple[bytes, list[int]]:
    """Up to `length` bytes, with at most `most` descriptors, closed on exec; b"" at the end. Raises OSError."""
    room = socket.CMSG_LEN(most * array.array("i").itemsize) if most else 0
    data, ancillary, _, _ = channel.recvmsg(length, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)
