"""The process that fetches for one container: it becomes the container's user first, and then opens and writes.

It is executed by `process`, which says what it needs. All it imports it imports as the user it was started by: the
container's may not read this file.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

import msgspec

from mesocosm.container import URI
from mesocosm.fetcher.archives import extract
from mesocosm.fetcher.base import FetchError, reason_of
from mesocosm.fetcher.messages import END, Action, Reply, Request, Start, pack, unpack
from mesocosm.fetcher.names import archive_of, shown, target_of
from mesocosm.fetcher.sources import Source, Sources
from mesocosm.fetcher.tree import EXECUTABLE_MODE, FILE_MODE, Tree
from mesocosm.launcher.info import Credentials
from mesocosm.linux import descriptors, prctl, process

_CHUNK = 1 << 20
_LONGEST_LINE = 1000
_MOST_MEMORY = 1 << 30
"""What an archive may make its decompressor take: a dictionary of xz can have 4 GB. In bytes."""
_CODECS = ("idna", "cp437", "latin-1", "iso-8859-1", "ascii", "utf-8")
"""What the libraries would look for later: names of hosts and in archives, and headers."""


def main() -> NoReturn:
    """Serves the fetcher at the other end of the standard input until that closes it."""
    if sys.platform == "linux":
        process.set_title("mesocosm-fetcher")
    for name in _CODECS:
        codecs.lookup(name)
    with socket.socket(fileno=os.dup(0)) as channel:
        with open(os.devnull, "rb") as null:
            os.dup2(null.fileno(), 0)  # For what an entry point may start.
        serve(channel)
    sys.exit()


def serve(channel: socket.socket) -> None:
    """Answers what comes through `channel`, to its end."""
    line, sandbox = _receive(channel)
    if line is None or sandbox is None:
        return
    try:
        start = unpack(line, Start)
        sources = Sources(start.uris, start.stall_timeout)
        _become(start.credentials)
    except (FetchError, OSError, msgspec.MsgspecError) as error:
        channel.sendall(pack(_failed(error)))
        return
    threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
    worker = Worker(Tree(sandbox), sources)
    channel.sendall(pack(Reply()))
    while True:
        line, descriptor = _receive(channel)
        if line is None:
            return
        try:
            reply = worker.answer(unpack(line, Request), descriptor)
        except (FetchError, OSError, MemoryError, msgspec.MsgspecError) as error:
            reply = _failed(error)
        channel.sendall(pack(reply))


class Worker:
    """Does what is asked, in the sandbox `tree`."""

    def __init__(self, tree: Tree, sources: Sources) -> None:
        self._tree = tree
        self._sources = sources
        self._opened: Source | None = None

    def answer(self, request: Request, descriptor: int | None) -> Reply:
        """Does it. `descriptor` is closed. Raises FetchError, OSError or MemoryError."""
        uri = request.uri
        if descriptor is None:
            if request.action is Action.OPEN:
                self._opened = self._sources.open(uri.value)
                return Reply(size=self._opened.size)
            self._fetch(uri)
            return Reply()
        if request.action is Action.STORE:
            return self._store(uri, descriptor)
        with open(descriptor, "rb") as file:
            self._copy(uri, file)
        return Reply()

    def _store(self, uri: URI, descriptor: int) -> Reply:
        digest = hashlib.sha256()
        try:
            with self._source(uri) as source, open(descriptor, "r+b") as file:
                _say(f"{shown(uri.value)} goes into the cache{_of(source.size)}")
                source.write_to(file, _say)
                file.seek(0)
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:  # What is wrong with the source is a FetchError.
            _say(f"{shown(uri.value)} is not cached: {error.strerror}")
            return Reply()
        return Reply(digest=digest.hexdigest())

    def _fetch(self, uri: URI) -> None:
        target = target_of(uri)
        with self._source(uri) as source:
            _say(f"{shown(uri.value)} goes into the sandbox{_of(source.size)}")
            with self._tree.file(target, EXECUTABLE_MODE if uri.executable else FILE_MODE) as file:
                source.write_to(file, _say)
                file.flush()
                self._unpack(uri, file)
        _say(f"{'/'.join(target)!r} is complete")

    def _copy(self, uri: URI, cached: BinaryIO) -> None:
        target = target_of(uri)
        _say(f"{shown(uri.value)} comes from the cache")
        if self._unpack(uri, cached):
            return
        with self._tree.file(target, EXECUTABLE_MODE if uri.executable else FILE_MODE) as file:
            while chunk := cached.read(_CHUNK):
                file.write(chunk)
        _say(f"{'/'.join(target)!r} is complete")

    def _unpack(self, uri: URI, file: BinaryIO) -> bool:
        """Unpacks `file` into the sandbox, if it is an archive and that is wanted."""
        kind, name = archive_of(uri), target_of(uri)[-1]
        if kind is None:
            return False
        count = extract(file, kind, name, self._tree)
        _say(f"{name!r} is unpacked, {count} member{'' if count == 1 else 's'}")
        return True

    @contextlib.contextmanager
    def _source(self, uri: URI) -> Iterator[Source]:
        """What was opened, or else is now."""
        source, self._opened = self._opened or self._sources.open(uri.value), None
        with contextlib.closing(source):
            yield source


def _become(credentials: Credentials | None) -> None:
    """Gives up what this process may do and the container's user may not, for good. Raises OSError."""
    os.umask(0o022)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        try:
            process.join_new_keyring()
        except OSError as error:
            # No keyrings in this kernel, or the container that Mesocosm runs in may not use them.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
    if credentials is not None:
        os.setgroups(credentials.groups)
        os.setresgid(credentials.gid, credentials.gid, credentials.gid)
        os.setresuid(credentials.uid, credentials.uid, credentials.uid)
        if sys.platform == "linux":
            prctl.hide_from_ptrace()  # Also from the user himself, who could have it lie about the cache.


def _end_with(channel: socket.socket) -> None:
    """Ends this process, with all that it started, once nobody is at the other end any more."""
    poll = select.poll()
    poll.register(channel, select.POLLHUP)
    poll.poll()
    os.killpg(0, signal.SIGKILL)


def _receive(channel: socket.socket) -> tuple[bytes | None, int | None]:
    """A message, None at the end, and the descriptor that came with it."""
    line, descriptor = b"", None
    while not line.endswith(END):
        data, received = descriptors.receive(channel, 65536, 1)
        if not data:
            return None, None
        line += data
        descriptor = received[0] if received else descriptor
    return line, descriptor


def _failed(error: Exception) -> Reply:
    if isinstance(error, MemoryError):
        error = FetchError(f"it takes more than {_MOST_MEMORY >> 20} MB of memory to unpack")
    if isinstance(error, FetchError):
        return Reply(error=_line(error.message), hint=error.hint)
    return Reply(error=_line(reason_of(error)))


def _line(text: str) -> str:
    """The text in one line of no great length, without control characters: servers and archives have a part in it."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_LONGEST_LINE]


def _say(text: str) -> None:
    """A line for the container's `stderr`. That it cannot be written is no reason not to fetch."""
    with contextlib.suppress(OSError):
        os.write(2, f"fetcher: {text}\n".encode(errors="backslashreplace"))


def _of(size: int | None) -> str:
    return "" if size is None else f", {size} bytes"
