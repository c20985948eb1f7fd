"""Files with messages, in the form of Mesos: before each stands its length in four bytes (stout, `protobuf.hpp`).

Functions that are not coroutines block.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import struct
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from mesocosm.api.binary import from_bytes
from mesocosm.directories import make_directories, naming

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("=I")
"""In the order of the machine's bytes, as the file stays on the machine."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SOON, _LATER = 1.0, 30.0
"""Seconds until a full disk is tried again: the first time, and at most."""

_Message = TypeVar("_Message", bound=Message)
_Result = TypeVar("_Result")


def framed(message: Message) -> bytes:
    """The message with its length."""
    data = message.SerializeToString()
    return _LENGTH.pack(len(data)) + data


def parse(data: bytes, kind: type[_Message], start: int = 0) -> Iterator[tuple[_Message, int]]:
    """The messages in `data`, each with where it ends. What a crash has cut off at the end is not among them.

    Nor are zeros, which some file systems have in the place of what they did not come to write. Raises ValueError for
    what is no message of that `kind`.
    """
    while start + _LENGTH.size <= len(data):
        begin = start + _LENGTH.size
        end = begin + _LENGTH.unpack_from(data, start)[0]
        if end > len(data) or (end == begin and not any(data[start:])):
            return
        yield from_bytes(data[begin:end], kind), end
        start = end


def append(path: Path, position: int, message: Message) -> int:
    """Writes the message at `position`, in place of what an earlier attempt left there; returns where it ends.

    Makes the file if it is missing, with its directory. Raises OSError, which names the file.
    """
    data = framed(message)
    make_directories(path.parent)
    with naming(path), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), "wb", buffering=0) as file:
        file.truncate(position)
        file.seek(position)
        _write(file, data)
    return position + len(data)


def replace(contents: Mapping[Path, bytes], *, synced: bool) -> None:
    """Replaces each file as a whole, in the order given; makes the directories that are missing. Raises OSError.

    The end of this process leaves of each file the old or the new content. So does that of the machine if `synced`, and
    when this returns the new one is there for good. Of two that replace the same at the same time, one is the last.
    """
    changed = [path.parent for path in contents]
    for directory in dict.fromkeys(changed):
        changed += make_directories(directory)
    for path, data in contents.items():
        with naming(path):
            _replace(path, data, synced=synced)
    if synced:
        for directory in dict.fromkeys(changed):
            sync(directory)


def _replace(path: Path, data: bytes, *, synced: bool) -> None:
    descriptor, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            _write(file, data)
            if synced:
                os.fsync(descriptor)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def link(path: Path, name: str, *, synced: bool) -> None:
    """Has the symbolic link `path` lead to `name`, beside it. Raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.rename(path)
    if synced:
        sync(path.parent)


def remove(path: Path) -> None:
    """Removes the file for good, if there is one. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync(path.parent)


def sync(path: Path) -> None:
    """fsync(2): the content of a file, or the names in a directory, are on the disk then. Raises OSError."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def sync_all(paths: Iterable[Path]) -> None:
    """`sync` of all at the same time, which the file system does together: of ten in the time of two."""
    await asyncio.gather(*(asyncio.to_thread(sync, path) for path in paths))


async def when_there_is_room(write: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Does `write`, and again as long as the disk is full: what goes on without being on record would be lost.

    Raises what that raises but for want of room. Who is cancelled is so when `write` has ended, not in between.
    """
    delay = _SOON
    while True:
        attempt = asyncio.ensure_future(write())
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            await asyncio.wait([attempt])
            raise
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            logger.error("%s: this is tried again", error)
        await asyncio.sleep(delay)  # Of room on a disk there is no event.
        delay = min(2 * delay, _LATER)


async def write(function: Callable[[], None]) -> None:
    """Does `function` in a thread, when there is room for it. Raises OSError."""
    await when_there_is_room(lambda: asyncio.to_thread(function))


def _write(file: FileIO, data: bytes) -> None:
    while data:  # A disk that becomes full takes a part, and refuses the rest.
        data = data[file.write(data) :]
