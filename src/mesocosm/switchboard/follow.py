"""Following the files that a container's output goes to, as they grow, are renamed, and are begun anew.

They are in a directory that the container may change: it can truncate and replace them, and put links and fifos in
their places. So what a name leads to is looked at when it is opened, and opened only if it is a regular file. The
container writes into it in any case, whoever follows, and however slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mesocosm.errors import MesocosmError
from mesocosm.linux.lease import is_written
from mesocosm.linux.path import open_regular
from mesocosm.switchboard.chunks import Chunk, Encode, Key, Opened, SharedFile, SharedFiles

LINGER = 10.0
"""Seconds after the end of a container in which whoever has its output may still write it to the file."""
_MOST_FILES = 1000
"""That may be kept of those that were full."""
_TRIES = 10
"""How often files may be renamed while their order is looked at."""
_NOTHING_THERE = frozenset({errno.ENOENT, errno.EINVAL, errno.ELOOP, errno.EAGAIN})
"""Of a name: nothing, what is no regular file, a link, or a file that somebody has a lease on."""


class BeyondError(MesocosmError):
    """A file is to be followed from where it has not got to yet."""


class BehindError(MesocosmError):
    """Whoever follows is so slow that the next file was removed for its age."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """One file to follow: its name in the directory, what is sent for it, and from where (None: its present end)."""

    name: str
    encode: Encode
    offset: int | None = None
    oldest: bool = False
    """Whether it begins with the oldest of the files that were full, instead of there."""


class Follow:
    """What comes into some files of a directory, piece by piece: `async for`.

    It goes on until the container has `ended` and all that it wrote has been told of; without that, for ever. To wait
    for the next piece is safe to cancel.
    """

    def __init__(self, directory: Opened, tails: list[_Tail], ended: asyncio.Future[Any] | None) -> None:
        self._directory = directory
        self._tails = deque(tails)
        self._ended = ended
        self._deadline: float | None = None

    def __aiter__(self) -> Follow:
        return self

    async def __anext__(self) -> bytes:
        """Raises BehindError, and OSError."""
        was_over = False
        while True:
            if (piece := await self._next()) is not None:
                return piece
            is_over = self._is_over()
            changes = [] if is_over else self._changes()
            if (piece := await self._next()) is not None:  # It came just before.
                return piece
            if is_over and was_over:  # Twice: the first time, the files may have been others.
                raise StopAsyncIteration
            was_over = is_over
            if not is_over:
                left = None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()
                await asyncio.wait(changes, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """Lets go of the files; once more is no error."""
        if self._ended is not None:
            self._ended.cancel()
        if self._tails:
            self._directory.release()
        while self._tails:
            self._tails.pop().close()

    async def _next(self) -> bytes | None:
        """The next piece of any file, in turns."""
        for _ in range(len(self._tails)):
            tail = self._tails[0]
            self._tails.rotate()
            if (chunk := await tail.read()) is not None:
                return chunk.encoded(tail.encode)
        return None

    def _changes(self) -> list[asyncio.Future[Any]]:
        changes: list[asyncio.Future[Any]] = [self._directory.change(), *(tail.change() for tail in self._tails)]
        if self._ended is not None and not self._ended.done():
            changes.append(self._ended)
        return changes

    def _is_over(self) -> bool:
        """Whether nothing more will come than what is there now."""
        if self._ended is None or not self._ended.done():
            return False
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + LINGER
        return now >= self._deadline or not any(tail.is_written() for tail in self._tails)


async def follow(
    files: SharedFiles, directory: int, beginnings: Sequence[Beginning], ended: asyncio.Future[Any] | None = None
) -> Follow:
    """Follows files of a `directory`, an O_PATH descriptor that is not the caller's any more; `Follow.close` ends it.

    Raises BeyondError, and OSError with the name of a file that cannot be followed.
    """
    try:
        descriptors = await _in_thread(files, _open_all, directory, beginnings)
    except BaseException:
        os.close(directory)
        raise
    shared = files.directory(directory)
    opened = [files.file(descriptor) for descriptor in descriptors]
    tails = [_Tail(files, shared, beginning, file) for beginning, file in zip(beginnings, opened, strict=True)]
    found = Follow(shared, tails, ended)
    for beginning, file in zip(beginnings, opened, strict=True):
        if (beginning.offset or 0) > (size := file.size()):
            found.close()
            raise BeyondError(f"offset {beginning.offset} is beyond the end of the file, which has {size} bytes")
    return found


class _Tail:
    """One of the files: the open one, and how much of it has been told."""

    def __init__(self, files: SharedFiles, directory: Opened, beginning: Beginning, file: SharedFile) -> None:
        self.encode = beginning.encode
        self._files = files
        self._directory = directory
        self._name = beginning.name
        self._file = file
        start = 0 if beginning.oldest else beginning.offset
        self._offset = file.size() if start is None else start
        self._next: SharedFile | None = None

    async def read(self) -> Chunk | None:
        """What comes next, if there is anything. Raises BehindError, OSError."""
        while (chunk := await self._file.chunk(self._offset)) is None:
            if self._offset > self._file.size():
                self._offset = 0  # It was truncated, and what has come since then is new.
            elif not await self._advance():
                return None
        self._offset += len(chunk.data)
        return chunk

    def change(self) -> asyncio.Future[None]:
        """Done when there may be more. Raises OSError."""
        return self._file.change()

    def is_written(self) -> bool:
        """Whether anybody may write more into the file. Raises OSError."""
        return is_written(self._file.descriptor)

    def close(self) -> None:
        """Lets go of the file."""
        for file in (self._file, self._next):
            if file is not None:
                file.release()

    async def _advance(self) -> bool:
        """Goes on to the file that was begun after this one; False if there is none.

        Once that is found, this one is complete, but may have got more just before: the next call goes on.
        """
        if self._next is not None:
            self._file.release()
            self._file, self._next, self._offset = self._next, None, 0
            return True
        if _is_at(self._directory.descriptor, self._name, self._file.key):
            return False
        descriptors = await _in_thread(
            self._files, _open_next, self._directory.descriptor, self._name, self._file.descriptor
        )
        if descriptors:
            self._next = self._files.file(descriptors[0])
        return bool(descriptors)


# From here on: what blocks, and runs in a thread.


async def _in_thread(files: SharedFiles, open_some: Callable[..., list[int]], *arguments: Any) -> list[int]:
    """The descriptors that are opened in a thread. They are closed if nobody waits for them any more."""
    opening = asyncio.get_running_loop().run_in_executor(files.threads, open_some, *arguments)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_discard)
        raise


def _discard(opening: asyncio.Future[list[int]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        for descriptor in opening.result():
            os.close(descriptor)


def _open_all(directory: int, beginnings: Sequence[Beginning]) -> list[int]:
    with contextlib.ExitStack() as opened:
        descriptors = []
        for each in beginnings:
            open_one = _open_oldest if each.oldest else open_regular
            descriptors.append(open_one(directory, each.name))
            opened.callback(os.close, descriptors[-1])
        opened.pop_all()
    return descriptors


def _open_oldest(directory: int, name: str) -> int:
    """The first of the files that were begun as `name`, as far as they are kept. Raises OSError."""
    for _ in range(_TRIES):
        number = 0
        while number < _MOST_FILES and _exists(directory, f"{name}.{number + 1}"):
            number += 1
        found = _open_if_regular(directory, f"{name}.{number}" if number else name)
        if found and not _exists(directory, f"{name}.{number + 1}"):
            return found[0]
        for descriptor in found:  # Everything was renamed meanwhile.
            os.close(descriptor)
    return open_regular(directory, name)


def _open_next(directory: int, name: str, current: int) -> list[int]:
    """The file that was begun as `name` after the current one was renamed to `name.1`, and so on; empty if none was.

    Raises BehindError, OSError.
    """
    for _ in range(_TRIES):
        status = os.fstat(current)
        key = (status.st_dev, status.st_ino)
        number = _number(directory, name, key)
        if number is None:
            if status.st_nlink:
                return []  # Renamed by somebody else: the command goes on writing to it.
            if _exists(directory, f"{name}.1"):
                raise BehindError(f"{name}: the files are removed faster than they are read")
            return _open_if_regular(directory, name)  # Full ones are not kept, or somebody has removed it.
        found = _open_if_regular(directory, name if number == 1 else f"{name}.{number - 1}")
        if not found or _is_at(directory, f"{name}.{number}", key):
            return found
        os.close(found[0])  # Everything was renamed meanwhile.
    return []


def _number(directory: int, name: str, key: Key) -> int | None:
    for number in range(1, _MOST_FILES + 1):
        if _is_at(directory, f"{name}.{number}", key):
            return number
        if not _exists(directory, f"{name}.{number}"):
            return None
    return None


def _is_at(directory: int, name: str, key: Key) -> bool:
    """Whether a name is that of an inode. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == key


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _open_if_regular(directory: int, name: str) -> list[int]:
    try:
        return [open_regular(directory, name)]
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return []
