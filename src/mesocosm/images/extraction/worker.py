"""The process that unpacks layers, one after the other, so that two of them take two CPUs and nobody waits.

It is executed by `process`. What goes wrong with a layer ends with it: the store starts another one.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from typing import NoReturn

from mesocosm.images.errors import ImageError, shown
from mesocosm.images.extraction.messages import END, Extract, Extracted, Grown, pack, unpack
from mesocosm.images.extraction.stream import Stream
from mesocosm.images.extraction.tar import Archive
from mesocosm.images.extraction.tree import Tree
from mesocosm.linux import descriptors
from mesocosm.linux.sync import sync_file_system

_MOST_MEMORY = 512 << 20
"""For what an archive could make it take: a window of zstd, and the names of directories. In bytes."""
_FULL = "make room on the disk of the store, or remove images: `mesocosm prune`"


def main() -> NoReturn:
    """Serves the store at the other end of the standard input until that closes it."""
    os.umask(0)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    with socket.socket(fileno=os.dup(0)) as channel:
        answer = Extracted()
        while answer.error is None and (job := _receive(channel)) is not None:
            answer = _answer(channel, *job)
            channel.sendall(pack(answer))
    sys.exit()


class FollowedFile:
    """A blob in a file, as far as it is there; the channel tells when there is more."""

    def __init__(self, descriptor: int, job: Extract, channel: socket.socket, received: bytes = b"") -> None:
        """`received` is what has come through the channel after the job."""
        self._descriptor = descriptor
        self._position = job.offset
        self._end = job.offset + job.available
        self._job = job
        self._complete = job.complete
        self._channel = channel
        self._received = received

    def read(self, size: int) -> bytes:
        """At most `size` bytes, empty at the end. Raises ImageError, OSError."""
        while self._position >= self._end and not self._complete:
            self._wait()
        data = os.pread(self._descriptor, min(size, self._end - self._position), self._position)
        if not data and self._position < self._end:
            raise ImageError("the file of the layer has been truncated")
        self._position += len(data)
        return data

    def _wait(self) -> None:
        """Waits to be told of more, and hears all that there is to hear."""
        while END not in self._received:
            if not (data := self._channel.recv(65536)):
                sys.exit()  # The store is gone, or does not want it any more.
            self._received += data
        *lines, self._received = self._received.split(END)
        for line in lines:
            grown = unpack(line, Grown)
            self._end, self._complete = self._job.offset + grown.available, grown.complete


def extract(blob: FollowedFile, root: int, digest: str | None, diff_id: str) -> Extracted:
    """Unpacks the layer in `blob` into the empty directory `root`. Raises ImageError, OSError."""
    stream, tree = Stream(blob, digest, diff_id), Tree(root)
    try:
        archive = Archive(stream)
        for member in archive:
            try:
                tree.add(member, archive.write)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(member)) from error
        stream.finish()
        tree.finish()
    except ImageError as error:
        raise stream.blame(error) from error
    finally:
        tree.close()
    sync_file_system(root)
    return Extracted(size=tree.size, implied=tuple(sorted(tree.implied)), opaque=tree.opaque)


def _answer(channel: socket.socket, job: Extract, blob: int, root: int, received: bytes) -> Extracted:
    try:
        return extract(FollowedFile(blob, job, channel, received), root, job.digest, job.diff_id)
    except (ImageError, OSError, MemoryError) as error:
        return _failed(error)
    finally:
        os.close(blob)
        os.close(root)


def _receive(channel: socket.socket) -> tuple[Extract, int, int, bytes] | None:
    """The next job, with the descriptors of the blob and of the directory, and what comes after it; None at the end."""
    data, received = b"", list[int]()
    while END not in data:
        part, more = descriptors.receive(channel, 65536, 2)
        if not part:
            return None
        data += part
        received += more
    line, _, rest = data.partition(END)
    blob, root = received
    return unpack(line, Extract), blob, root, rest


def _failed(error: Exception) -> Extracted:
    if isinstance(error, MemoryError):
        return Extracted(error=f"it takes more than {_MOST_MEMORY >> 20} MB of memory to unpack")
    if isinstance(error, ImageError):
        return Extracted(error=shown(error.message), hint=error.hint)
    assert isinstance(error, OSError)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Extracted(error=shown(f"{error.filename}: {error.strerror}"), hint=_FULL if full else None)
