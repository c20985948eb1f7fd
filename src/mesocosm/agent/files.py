"""The files that the agent shows: sandboxes and its log, at virtual paths (`/files/*`, LIST_FILES, READ_FILE).

A sandbox belongs to a container, which may put anything into it at any time. So every path in it is looked up by
openat2(2), which does not leave the sandbox. What is found is opened for its name only (O_PATH), and for its content
once it has turned out to be a regular file: a fifo could make the agent wait, and to open a device can have effects.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import mimetypes
import mmap
import os
import posixpath
import re
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, TypeVarTuple
from urllib.parse import quote

from mesocosm.errors import MesocosmError
from mesocosm.linux.path import open_in_root, reopen
from mesocosm.users import name_of

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")
Authorize = Callable[[str | None], bool]
"""Whether a principal may see what is attached. None: nobody known."""

MOST_BYTES = 16 * mmap.PAGESIZE
"""How much one `read` returns."""
MOST_ENTRIES = 50_000
"""How many files a directory may have to be listed: each needs half a kilobyte until the list has been sent."""
_THREADS = 4
"""How many may wait for disks. They are not those of the rest of the agent, which so has some if a disk is stuck."""
_CHUNK = 1 << 18
_MOST_CHARACTERS = 4096
"""Of a path (PATH_MAX); to look for every part of a much longer one takes time."""

_ODD = re.compile(r"[^\w.+-]", re.ASCII)
"""What a file name in a header is better without."""
_STATUS = {
    errno.ENOENT: HTTPStatus.NOT_FOUND,
    errno.ENOTDIR: HTTPStatus.NOT_FOUND,
    errno.ELOOP: HTTPStatus.BAD_REQUEST,
    errno.EINVAL: HTTPStatus.BAD_REQUEST,
    errno.ENAMETOOLONG: HTTPStatus.BAD_REQUEST,
}


class FilesError(MesocosmError):
    """A file that cannot be shown.

    `status` is 400, 403, 404 or 500, for the INVALID, UNAUTHORIZED, NOT_FOUND and UNKNOWN of Mesos.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a listing (`FileInfo` of mesos.proto). `path` is virtual, `mtime` in seconds, `mode` that of stat(2).

    `uid` and `gid` are names, and numbers where the host has no name for them. One that `is_link` is described as what
    it leads to.
    """

    path: str
    nlink: int
    size: int
    mtime: int
    mode: int
    uid: str
    gid: str
    is_link: bool = False

    def to_json(self) -> dict[str, str | int | float]:
        """The file as `/files/browse` has it: the mode is like `-rw-r--r--`, without letters for set-user-id etc.

        Mesos does not tell what is a link.
        """
        return {
            "path": self.path,
            "nlink": self.nlink,
            "size": self.size,
            "mtime": float(self.mtime),
            "mode": stat.filemode(self.mode & ~0o7000),
            "uid": self.uid,
            "gid": self.gid,
            **({"is_link": True} if self.is_link else {}),
        }


@dataclass(frozen=True, slots=True)
class FileChunk:
    """`data`, from `offset` on, of a file that has `size` bytes."""

    data: bytes
    offset: int
    size: int

    def to_json(self) -> dict[str, str | int]:
        """The chunk as `/files/read` has it. What is not UTF-8 is replaced; `/files/download` is for such files."""
        return {"data": self.data.decode(errors="replace"), "offset": self.offset}


@dataclass(frozen=True, slots=True)
class Download:
    """An open file, of which the first `size` bytes are sent: what is appended meanwhile is no part of it.

    As a context it closes itself.
    """

    name: str
    content_type: str
    size: int
    file: BinaryIO
    threads: Executor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    @property
    def headers(self) -> dict[str, str]:
        """What has a browser save the file, and not show what a container wrote as if the agent had written it."""
        filename = _ODD.sub("_", self.name)
        if filename != self.name:
            filename += f"; filename*=UTF-8''{quote(self.name, safe='')}"
        return {
            "Content-Type": self.content_type,
            "Content-Disposition": f"attachment; filename={filename}",
            "X-Content-Type-Options": "nosniff",
        }

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The content; less than `size` bytes if the file has become shorter. Raises OSError."""
        loop, descriptor, offset = asyncio.get_running_loop(), self.file.fileno(), 0
        while offset < self.size:
            length = min(_CHUNK, self.size - offset)
            data = await loop.run_in_executor(self.threads, os.pread, descriptor, length, offset)
            if not data:
                return
            yield data
            offset += len(data)


@dataclass(frozen=True, slots=True)
class _Attached:
    """A file or directory of the host: `inside`, which a container can change, is below `real`, which none can."""

    real: Path
    inside: str
    authorize: Authorize | None


class Files:
    """A file system of what is attached to it. What attached paths lead to can come and go, and is never left."""

    def __init__(self) -> None:
        self._attached: dict[str, _Attached] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    def attach(self, virtual: str, real: Path, authorize: Authorize | None = None, *, inside: str = "") -> None:
        """Shows the file or directory `real` at `virtual`, to whom `authorize` allows; in place of what was there.

        No container may be able to change any part of the path `real`: what one can change is in `inside`, a path
        below it (see `container.sandbox_parts`).
        """
        self._attached[_clean(virtual)] = _Attached(real, inside, authorize)

    def detach(self, virtual: str) -> None:
        """Shows nothing at `virtual` any more; nothing there is no error."""
        self._attached.pop(_clean(virtual), None)

    def attached(self) -> dict[str, str]:
        """The real path of each virtual one (`/files/debug`)."""
        return {
            virtual: str(self._attached[virtual].real / self._attached[virtual].inside)
            for virtual in sorted(self._attached)
        }

    async def browse(self, path: str, principal: str | None = None) -> list[FileInfo]:
        """What is in a directory, by name; nothing for a file. Raises FilesError."""
        attached, rest = self._find(path, principal)
        return await self._in_thread(_list, attached, rest, _clean(path))

    async def read(
        self, path: str, offset: int = -1, length: int | None = None, principal: str | None = None
    ) -> FileChunk:
        """Up to `length` bytes, and no more than MOST_BYTES. Raises FilesError.

        As in Mesos, the offset -1 reads nothing and returns the size as offset, and the length -1 means None.
        """
        if offset < -1:
            raise FilesError(HTTPStatus.BAD_REQUEST, f"Negative offset provided: {offset}")
        if length is not None and length < -1:
            raise FilesError(HTTPStatus.BAD_REQUEST, f"Negative length provided: {length}")
        attached, rest = self._find(path, principal)
        most = MOST_BYTES if length in (None, -1) else min(length, MOST_BYTES)
        return await self._in_thread(_read, attached, rest, offset, most)

    async def open_for_download(self, path: str, principal: str | None = None) -> Download:
        """A regular file, to be sent as a whole; whoever opens it closes it. Raises FilesError."""
        attached, rest = self._find(path, principal)
        return await self._in_thread(_open_for_download, attached, rest, self._threads)

    @property
    def threads(self) -> Executor:
        """Those that wait for disks."""
        return self._threads

    async def open_parent(self, path: str, principal: str | None = None) -> tuple[int, str]:
        """The directory that a file is in, as a descriptor for its name only, and the name there. Raises FilesError."""
        attached, rest = self._find(path, principal)
        if not rest and not attached.inside:
            real = await self._in_thread(attached.real.resolve)
            return await self.open_real(real.parent), real.name
        above, name = posixpath.split(posixpath.normpath(posixpath.join(attached.inside, rest)))
        return await self.open_real(attached.real, above), name

    async def open_real(self, real: Path, inside: str = "") -> int:
        """A directory, as `attach` names it, as a descriptor for its name only. Raises FilesError."""
        return await self._in_thread(_open_directory, _Attached(real, inside, None))

    async def shown(self, work: Awaitable[Result]) -> Result:
        """What `work` on files returns. Raises FilesError for its OSError."""
        try:
            return await work
        except OSError as error:
            status = _STATUS.get(error.errno or 0, HTTPStatus.INTERNAL_SERVER_ERROR)
            raise FilesError(status, f"the file cannot be shown: {error.strerror}") from error

    def _find(self, path: str, principal: str | None) -> tuple[_Attached, str]:
        """What is attached at the longest part of `path`, and the rest of that. Raises FilesError."""
        if len(path) > _MOST_CHARACTERS:
            raise FilesError(HTTPStatus.BAD_REQUEST, f"a path has {_MOST_CHARACTERS} characters at most")
        virtual = _clean(path)
        found = [prefix for prefix in _prefixes(virtual) if prefix in self._attached]
        for prefix in found:
            if (authorize := self._attached[prefix].authorize) is not None:
                if not authorize(principal):
                    raise FilesError(HTTPStatus.FORBIDDEN, f"{path!r} is not for {principal or 'everybody'}")
                break
        if not found:
            raise FilesError(HTTPStatus.NOT_FOUND, f"there is nothing at {path!r}")
        rest = virtual[len(found[0]) :].lstrip("/")
        _check(path, rest)
        return self._attached[found[0]], rest

    async def _in_thread(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await self.shown(asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments))


def _clean(path: str) -> str:
    return path.removeprefix("file://").rstrip("/")


def _prefixes(virtual: str) -> Iterator[str]:
    """The path and what it is below, up to the root if it begins there."""
    yield virtual
    while "/" in virtual:
        virtual = virtual.rpartition("/")[0]
        yield virtual


def _check(path: str, rest: str) -> None:
    """Refuses what leads nowhere. That it does not lead out is seen to where it is opened, for links as well."""
    normal = posixpath.normpath(rest)
    if normal == ".." or normal.startswith("../"):
        raise FilesError(HTTPStatus.BAD_REQUEST, f"{path!r} leads out of what it begins in")
    try:
        valid = b"\0" not in os.fsencode(rest)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise FilesError(HTTPStatus.BAD_REQUEST, f"{path!r} is no path")


# From here on: what blocks, and runs in a thread.


@contextlib.contextmanager
def _root(attached: _Attached) -> Iterator[int]:
    """A descriptor, for its name only, of what is attached. Raises OSError, FilesError."""
    if sys.platform != "linux":
        raise FilesError(HTTPStatus.INTERNAL_SERVER_ERROR, "files can be shown on Linux only, by openat2(2)")
    root = os.open(attached.real, os.O_PATH | os.O_CLOEXEC)
    try:
        if attached.inside:
            root, outside = open_in_root(root, attached.inside), root
            os.close(outside)
        yield root
    finally:
        os.close(root)


@contextlib.contextmanager
def _found(root: int, rest: str) -> Iterator[int]:
    """A descriptor, for its name only, of what is at `rest` below `root`. Raises OSError."""
    if not rest:
        yield root
        return
    descriptor = open_in_root(root, rest)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_directory(attached: _Attached) -> int:
    with _root(attached) as root:
        if not stat.S_ISDIR(os.fstat(root).st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return os.dup(root)


def _open_regular(attached: _Attached, rest: str) -> BinaryIO:
    with _root(attached) as root, _found(root, rest) as descriptor:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "what is no regular file"
            raise FilesError(HTTPStatus.BAD_REQUEST, f"Cannot read {what}")
        return open(reopen(descriptor), "rb", buffering=0)


def _open_for_download(attached: _Attached, rest: str, threads: Executor) -> Download:
    name = _printable(posixpath.basename(rest or str(attached.real / attached.inside)))
    kind, encoding = mimetypes.guess_type(name)
    content_type = kind if kind is not None and encoding is None else "application/octet-stream"
    # A file, not a descriptor: should nobody wait for it any more, it is closed nevertheless.
    file = _open_regular(attached, rest)
    return Download(name, content_type, os.fstat(file.fileno()).st_size, file, threads)


def _read(attached: _Attached, rest: str, offset: int, most: int) -> FileChunk:
    with _open_regular(attached, rest) as file:
        size = os.fstat(file.fileno()).st_size
        if offset == -1:
            return FileChunk(b"", size, size)
        data = os.pread(file.fileno(), most, offset) if offset < size else b""
        return FileChunk(data, offset, size)


def _list(attached: _Attached, rest: str, virtual: str) -> list[FileInfo]:
    user, group = cache(name_of), cache(_group)
    with _root(attached) as root, _found(root, rest) as found:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            return []
        listed = [
            FileInfo(
                path=f"{virtual}/{_printable(name)}",
                nlink=status.st_nlink,
                size=status.st_size,
                mtime=int(status.st_mtime),
                mode=status.st_mode,
                uid=user(status.st_uid),
                gid=group(status.st_gid),
                is_link=is_link,
            )
            for name, status, is_link in _entries(root, rest, found)
        ]
    return sorted(listed, key=lambda info: info.path)


def _entries(root: int, rest: str, found: int) -> Iterator[tuple[str, os.stat_result, bool]]:
    """What is in a directory, and whether it is a link: that is what it leads to, or itself if nothing in `root` is."""
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
    try:
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number == MOST_ENTRIES:
                    text = f"the directory has more than {MOST_ENTRIES} files, too many to list"
                    raise FilesError(HTTPStatus.BAD_REQUEST, text)
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # Removed meanwhile.
                is_link = stat.S_ISLNK(status.st_mode)
                if is_link:
                    with contextlib.suppress(OSError), _found(root, f"{rest}/{entry.name}") as target:
                        status = os.fstat(target)
                yield entry.name, status, is_link
    finally:
        os.close(directory)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _printable(name: str) -> str:
    """A file name, which may be any bytes, as text."""
    return os.fsencode(name).decode(errors="replace")
