"""Unpacking archives that nobody vouches for: what is in them ends up in the sandbox, or nowhere.

Modes are cut to those that the umask 022 leaves, set-id bits are dropped, owners are ignored, times are kept. A leading
slash is dropped, as tar(1) does. Refused are `..`, devices, fifos, and members below a link, see `tree`. Links may lead
anywhere, as the container's user can make such himself.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, Self, cast

import zstandard

from mesocosm.fetcher.base import FetchError, reason_of
from mesocosm.fetcher.names import Archive, inside
from mesocosm.fetcher.tree import DIRECTORY_MODE, FILE_MODE, Tree

_CHUNK = 1 << 20
_LONGEST_LINK = 4096  # PATH_MAX of <linux/limits.h>.
_MAGIC: tuple[tuple[bytes, Callable[[BinaryIO], object]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
    (
        b"\x28\xb5\x2f\xfd",
        lambda file: zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False),
    ),
)
# What the libraries raise for an archive that is damaged or needs what they have not.
_FAILURES = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, struct.error),
    *(OSError, EOFError, ValueError, RuntimeError, OverflowError),
)


def extract(archive: BinaryIO, kind: Archive, name: str, tree: Tree) -> int:
    """Unpacks `archive`, a file called `name` that can seek, into `tree`, and returns how many files and so on it has.

    Raises FetchError for one that is damaged or hostile, or cannot be written.
    """
    archive.seek(0)
    unpack = {Archive.TAR: _tar, Archive.ZIP: _zip, Archive.GZIP: _gzip}[kind]
    try:
        count = sum(1 for _ in unpack(archive, name, tree))
        tree.finish()
    except FetchError as error:
        raise FetchError(f"{name!r} cannot be unpacked: {error.message}", error.hint) from error
    except _FAILURES as error:
        raise FetchError(f"{name!r} cannot be unpacked: {reason_of(error)}") from error
    return count


def _gzip(archive: BinaryIO, name: str, tree: Tree) -> Iterator[None]:
    with tree.file((name.removesuffix(".gz"),)) as file, gzip.GzipFile(fileobj=archive) as source:
        shutil.copyfileobj(source, file, _CHUNK)
    yield


def _tar(archive: BinaryIO, _name: str, tree: Tree) -> Iterator[None]:
    stream = _decompressed(archive)
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK, tarinfo=_Header) as tar:
        while (member := tar.next()) is not None:
            _tar_member(tar, member, tree)
            tar.members.clear()  # type: ignore[attr-defined, unused-ignore] # It would keep them all.
            yield
    while stream.read(_CHUNK):
        pass  # The checksum of the whole is at its end.


class _Header(tarfile.TarInfo):
    """One that does not take a damaged header for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in a block. Raises tarfile.ReadError, and HeaderError at the end of the archive."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):
                raise tarfile.ReadError(f"{error}, or this is no tar archive") from error
            raise


def _tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree) -> None:
    path = inside(member.name)
    if member.isdir():
        tree.directory(path, member.mode, member.mtime)
    elif member.issym():
        tree.symlink(path, member.linkname)
    elif member.islnk():
        tree.link(path, inside(member.linkname))
    elif member.isreg():
        with tree.file(path, member.mode, member.mtime) as file:
            _copy_parts(cast("IO[bytes]", tar.fileobj), file, member)
    else:
        raise FetchError(f"{member.name!r} is a device, a fifo or something unknown")


def _copy_parts(stream: IO[bytes], file: BinaryIO, member: tarfile.TarInfo) -> None:
    """The whole of a file, or the parts of a sparse one that are not empty: in the archive, one follows the other."""
    stream.seek(member.offset_data)
    sparse = cast("list[tuple[int, int]] | None", getattr(member, "sparse", None))
    for offset, size in [(0, member.size)] if sparse is None else sparse:
        file.seek(offset)
        remaining = size
        while remaining:
            chunk = stream.read(min(_CHUNK, remaining))
            if not chunk:
                raise FetchError(f"it ends within {member.name!r}")
            file.write(chunk)
            remaining -= len(chunk)
    file.truncate(member.size)


def _decompressed(archive: BinaryIO) -> IO[bytes]:
    """What is in `archive`, whatever its name says of the compression: that is Mesos's way, by libarchive."""
    start = archive.read(max(len(magic) for magic, _ in _MAGIC))
    archive.seek(0)
    reader = next((reader for magic, reader in _MAGIC if start.startswith(magic)), None)
    return archive if reader is None else cast("IO[bytes]", reader(archive))


def _zip(archive: BinaryIO, _name: str, tree: Tree) -> Iterator[None]:
    with zipfile.ZipFile(archive) as package:
        for member in package.infolist():
            _zip_member(package, member, tree)
            yield


def _zip_member(package: zipfile.ZipFile, member: zipfile.ZipInfo, tree: Tree) -> None:
    path, mode, mtime = inside(member.filename), member.external_attr >> 16, _time_of(member)
    kind, mode = stat.S_IFMT(mode), stat.S_IMODE(mode)
    if member.is_dir():
        tree.directory(path, mode or DIRECTORY_MODE, mtime)
    elif kind == stat.S_IFLNK:
        if member.file_size > _LONGEST_LINK:
            raise FetchError(f"the link {member.filename!r} leads to a path that is too long")
        tree.symlink(path, os.fsdecode(package.read(member)))
    elif kind in (0, stat.S_IFREG):
        with tree.file(path, mode or FILE_MODE, mtime) as file, package.open(member) as source:
            shutil.copyfileobj(source, file, _CHUNK)
    else:
        raise FetchError(f"{member.filename!r} is a device, a fifo or something unknown")


def _time_of(member: zipfile.ZipInfo) -> float | None:
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (OverflowError, ValueError):
        return None
