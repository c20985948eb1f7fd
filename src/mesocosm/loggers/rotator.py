"""The process that writes and rotates the logs of all containers of an agent.

Each container writes into two pipes. This process reads them, and outlives the agent that started it: it ends when the
last container has closed its output and no agent is connected. An agent finds it by a Unix socket, of which only root
and the user it runs as may speak. It has one thread, and imports little, so that it starts fast and stays small.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import selectors
import socket
import struct
import sys
from collections.abc import Iterator
from functools import partial

from mesocosm.linux import descriptors, process
from mesocosm.loggers.rotation import RotatedFile

REQUEST = struct.Struct("=I2I2Q2I")
"""The version, uid and gid of the container's user, then sizes and numbers of files of stdout and stderr.

With it come three descriptors: the sandbox, and the pipes of stdout and stderr.
"""
REPLY = struct.Struct("=i")
"""0, or the errno of what failed. EPROTO: this process is of a version that speaks otherwise."""
VERSION = 1

_PEER = struct.Struct("=3i")
_PASSED = 3
_CHUNK = 65536
_SPARE_DESCRIPTORS = 64
"""Kept free for connections: who cannot accept one is told of it again and again."""
_NOT_NOW = (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def is_trusted(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket runs as root or as this user. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(credentials)[1] in (0, os.getuid())


class Rotator:
    """Serves connections of agents on `listener`, and the pipes of containers."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS
        self._taken = 0

    def serve(self) -> None:
        """Returns when there is neither a connection nor a pipe. The first agent has connected already."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._accept()
        while len(self._selector.get_map()) > 1:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            return
        if not is_trusted(connection):
            connection.close()
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._answer, connection))

    def _answer(self, connection: socket.socket) -> None:
        try:
            data, passed = descriptors.receive(connection, REQUEST.size + 1, _PASSED)
        except ConnectionResetError:
            data, passed = b"", []
        if not data:
            self._selector.unregister(connection)
            connection.close()
            return
        try:
            code = self._add(data, passed)
        finally:
            for descriptor in passed:
                os.close(descriptor)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # Its end is read in the next round.
            connection.send(REPLY.pack(code))

    def _add(self, data: bytes, passed: list[int]) -> int:
        """Takes up a container; 0 or an errno. The pipes that it takes up it removes from `passed`."""
        if len(data) != REQUEST.size or REQUEST.unpack(data)[0] != VERSION:
            return errno.EPROTO
        if len(passed) != _PASSED or self._taken + 2 * _Stream.DESCRIPTORS > self._most:
            return errno.EMFILE
        _, uid, gid, *limits = REQUEST.unpack(data)
        streams: list[_Stream] = []
        try:
            for name, size, count in zip(("stdout", "stderr"), limits[:2], limits[2:], strict=True):
                with acting_as(uid, gid):
                    file = RotatedFile(passed[0], name, size, count)
                streams.append(_Stream(passed.pop(1), file, uid, gid))
        except OSError as error:
            for stream in streams:
                stream.close()
            return error.errno or errno.EIO
        for stream in streams:
            self._selector.register(stream.pipe, selectors.EVENT_READ, partial(self._copy, stream))
            self._taken += _Stream.DESCRIPTORS
        return 0

    def _copy(self, stream: _Stream) -> None:
        if not stream.copy():
            self._selector.unregister(stream.pipe)
            stream.close()
            self._taken -= _Stream.DESCRIPTORS


class _Stream:
    """A pipe and the file that it goes to, which is written to with the rights of the container's user."""

    DESCRIPTORS = 3

    def __init__(self, pipe: int, file: RotatedFile, uid: int, gid: int) -> None:
        self.pipe = pipe
        self._file = file
        self._ids = (uid, gid)
        # The container may read its own pipe, and be faster.
        os.set_blocking(pipe, False)

    def copy(self) -> bool:
        """Copies what there is, up to a limit that leaves others their turn; False at the end."""
        try:
            data = os.read(self.pipe, _CHUNK)
        except BlockingIOError:
            return True
        with acting_as(*self._ids):
            self._file.write(data)
        return bool(data)

    def close(self) -> None:
        os.close(self.pipe)
        self._file.close()


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """What is done within is done with the rights, the quota and the space of that user. Only root can. Raises OSError.

    The real and the saved ids stay root's, so that the user may not signal or trace this process meanwhile.
    """
    if os.getuid() != 0 or (uid, gid) == (0, 0):
        yield
        return
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def main() -> None:
    """Serves in a child, and ends: run as `rotator LISTENER PATH`, a descriptor and the path of its socket."""
    listener, path = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    process.set_title(f"mesocosm-logger {path}")
    if os.fork():
        os._exit(0)  # The child is nobody's but the system's, and no agent has to await its end.
    os.umask(0o022)
    if os.getuid() == 0:
        os.setgroups(())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener.setblocking(False)
    own = os.lstat(path).st_ino
    Rotator(listener).serve()
    with contextlib.suppress(FileNotFoundError):
        # Not that of a successor. Who has connected just now sees the connection end, and starts one.
        if os.lstat(path).st_ino == own:
            os.unlink(path)  # noqa: PTH108 - pathlib would be imported for this alone.
