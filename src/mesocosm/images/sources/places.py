"""Files of an archive or a layout on this machine: in a directory, or in a tar archive, compressed or not."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import zstandard

from mesocosm.images.errors import ImageError

_MOST_LINKS = 8
_MAGIC: tuple[tuple[bytes, Callable[[BinaryIO], object]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", lambda file: zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)),
)


@dataclass(frozen=True, slots=True)
class Part:
    """`size` bytes of the open file `descriptor`, from `offset` on. Whoever asked for it closes that."""

    descriptor: int
    offset: int
    size: int


class Place(Protocol):
    """Files by their names. All methods block, and raise ImageError or OSError."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of that name."""

    def open(self, name: str) -> Part:
        """A file of it."""

    def close(self) -> None:
        """Lets go of it."""


def read(place: Place, name: str, largest: int) -> bytes:
    """What a file has, if it is not larger than `largest` bytes. Raises ImageError, OSError."""
    part = place.open(name)
    try:
        if part.size > largest:
            raise ImageError(f"{name} has {part.size} bytes, where {largest} are the most")
        return os.pread(part.descriptor, part.size, part.offset)
    finally:
        os.close(part.descriptor)


class Directory:
    """The files in a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, name: str) -> bool:
        return (self._path / name).is_file()

    def open(self, name: str) -> Part:
        """A file of it."""
        return _whole(self._path / name)

    def close(self) -> None:
        """Nothing is open."""


class Archive:
    """The files in a tar archive; if that is compressed, a copy in `scratch` is made that is not."""

    def __init__(self, path: Path, scratch: Path) -> None:
        """Raises ImageError, OSError."""
        try:
            with contextlib.ExitStack() as opened:
                self._descriptor = _uncompressed(path, scratch)
                opened.callback(os.close, self._descriptor)
                self._members = _index(self._descriptor)
                opened.pop_all()
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise ImageError(f"{path} is no archive that can be read: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> Part:
        """A file of it, or what a link of that name leads to: archives of `docker save` have some."""
        for _ in range(_MOST_LINKS):
            if (member := self._members.get(name)) is None:
                raise ImageError(f"the archive has no {name}", "it was damaged, or is not complete")
            if member.issym():
                name = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            elif member.islnk():
                name = posixpath.normpath(member.linkname)
            else:
                return Part(os.dup(self._descriptor), member.offset_data, member.size)
        raise ImageError(f"the archive has links in a circle at {name}")

    def close(self) -> None:
        """Closes the archive."""
        os.close(self._descriptor)


def _whole(path: Path) -> Part:
    """A regular file. Not to wait for a writer, should it be a fifo."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ImageError(f"{path} is no regular file")
    return Part(descriptor, 0, status.st_size)


def _uncompressed(path: Path, scratch: Path) -> int:
    """A descriptor of the archive, or of a copy without a name in `scratch` that is not compressed."""
    with open(_whole(path).descriptor, "rb") as file:
        start = os.pread(file.fileno(), 8, 0)
        opener = next((opener for magic, opener in _MAGIC if start.startswith(magic)), None)
        return os.dup(file.fileno()) if opener is None else _decompressed(file, opener, scratch)


def _decompressed(file: BinaryIO, opener: Callable[[BinaryIO], object], scratch: Path) -> int:
    with (
        cast("BinaryIO", opener(file)) as source,
        tempfile.TemporaryFile(dir=scratch) as copy,
    ):
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        return os.dup(copy.fileno())


def _index(descriptor: int) -> dict[str, tarfile.TarInfo]:
    os.lseek(descriptor, 0, os.SEEK_SET)  # Of a copy, that is where its writer has got to.
    with open(descriptor, "rb", closefd=False) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        size = os.fstat(descriptor).st_size
        members = {posixpath.normpath(member.name): member for member in archive if not member.isdir()}
    for name, member in members.items():
        if member.isreg() and member.offset_data + member.size > size:
            raise ImageError(f"the archive is truncated: it ends within {name}")
    return members
