"""A file server that takes a question and never answers: who asks it cannot be killed until it is gone."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REQUEST = struct.Struct("=IIQQIIII")
"""Length, opcode, number, node, uid, gid, pid and nothing, of `struct fuse_in_header` in <linux/fuse.h>."""
_ANSWER = struct.Struct("=IiQ")
_INIT = struct.Struct("=IIIIHHII36x")
"""`struct fuse_init_out`: the version, flags, and how much may be read ahead and written at once."""
_VERSION = (7, 31)
_MOST, _WRITTEN = 1 << 17, 1 << 16
"""Bytes of a question, and of what is written at once, which is less."""


class HangingServer:
    """One that is mounted somewhere, by fuse(4)."""

    def __init__(self, device: int) -> None:
        self._device = device

    def take(self) -> int:
        """Waits for the next question; returns the pid of who has asked it and now hangs."""
        return int(_REQUEST.unpack_from(os.read(self._device, _MOST))[6])

    def end(self) -> None:
        """Whoever hangs gets an error, and ends if he was killed meanwhile."""
        if self._device != -1:
            os.close(self._device)
            self._device = -1


@contextmanager
def hanging_server(directory: Path) -> Iterator[HangingServer]:
    """Mounts one in `directory`, which has to be there."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    server = HangingServer(device)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
        subprocess.run(
            ["mount", "-i", "-t", "fuse", "-o", options, "test", directory],
            check=True,
            capture_output=True,
            pass_fds=[device],
        )
        try:
            number = _REQUEST.unpack_from(os.read(device, _MOST))[2]
            answer = _INIT.pack(*_VERSION, _WRITTEN, 0, 0, 0, _WRITTEN, 1)
            os.write(device, _ANSWER.pack(_ANSWER.size + len(answer), 0, number) + answer)
            yield server
        finally:
            server.end()
            subprocess.run(["umount", directory], check=True)
    finally:
        server.end()
