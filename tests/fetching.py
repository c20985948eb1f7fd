"""What tests fetch with: a fetcher with a sandbox and a log, and a server that does what it is told."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mesocosm.container import URI, ContainerID
from mesocosm.fetcher.fetcher import Fetcher
from mesocosm.launcher.info import Credentials

TIMEOUT = 20.0
"""How long anything may take, in seconds."""

SCRIPT = b"#!/bin/sh\n"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Bench:
    """A directory with a cache, sandboxes and things to fetch."""

    root: Path
    fetcher: Fetcher
    sandboxes: int = 0
    sandbox: Path = field(init=False)

    @classmethod
    def make(cls, root: Path, cache_size: int = 1 << 20, stall_timeout: float = TIMEOUT) -> Bench:
        (root / "from").mkdir(exist_ok=True)
        return cls(root, Fetcher(root / "cache", cache_size, stall_timeout))

    def file(self, name: str, content: bytes | str = "data", mode: int = 0o644) -> Path:
        """A file to fetch."""
        path = self.root / "from" / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def new_sandbox(self, owner: int | None = None) -> Path:
        self.sandboxes += 1
        self.sandbox = self.root / f"sandbox{self.sandboxes}"
        self.sandbox.mkdir(mode=0o750)
        if owner is not None:
            os.chown(self.sandbox, owner, owner)
        return self.sandbox

    async def fetch(
        self, *uris: URI | str | Path, user: str | Credentials | None = None, owner: int | None = None
    ) -> Path:
        """Fetches into a sandbox of its own, which it returns; `log` has what was said."""
        sandbox = self.new_sandbox(owner)
        await self.fetch_into(sandbox, *uris, user=user)
        return sandbox

    async def fetch_into(self, sandbox: Path, *uris: URI | str | Path, user: str | Credentials | None = None) -> None:
        wanted = [uri if isinstance(uri, URI) else URI(str(uri)) for uri in uris]
        with _log(self.log_of(sandbox)) as log:
            await asyncio.wait_for(self.fetcher.fetch(ContainerID(sandbox.name), wanted, sandbox, user, log), TIMEOUT)

    def log_of(self, sandbox: Path) -> Path:
        return self.root / f"{sandbox.name}.log"

    @property
    def log(self) -> str:
        """What the last fetch said."""
        return self.log_of(self.sandbox).read_text()

    def cached(self) -> list[Path]:
        """The files of the cache."""
        return sorted(path for path in (self.root / "cache").rglob("*") if path.is_file())


def names(directory: Path) -> list[str]:
    """What there is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def tarball() -> bytes:
    """An archive of a script, `dir/run`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("dir/run")
        info.size, info.mode = len(SCRIPT), 0o755
        archive.addfile(info, io.BytesIO(SCRIPT))
    return file.getvalue()


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def _log(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Server:
    """HTTP on 127.0.0.1: each path has an answer, and `requests` are the heads of what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.finished = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.finished.set()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def url(self, path: str, answer: Answer | bytes | None = None) -> str:
        """The URL of a path; `answer` is its body, or what is done to the connection."""
        if answer is not None:
            self.answers[path] = response(answer) if isinstance(answer, bytes) else answer
        return f"http://{self.address}{path}"

    def asked(self, path: str) -> int:
        """How often there was a request for a path."""
        return sum(request.split()[1] == path for request in self.requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            answer = self.answers.get(head.split()[1], response(b"", "404 Not Found"))
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # Who asked does not want it any more.
        finally:
            writer.close()


def response(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> Answer:
    """An answer at once; `length` is another than that of the body, -1 for none."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
        if length != -1:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


@dataclass
class Halting:
    """An answer that stops within the body until it is let go; `reached` tells that it has come so far."""

    first: bytes
    rest: bytes
    server: Server
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        length = len(self.first) + len(self.rest)
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode() + self.first)
        await writer.drain()
        self.reached.set()
        waits = [asyncio.ensure_future(event.wait()) for event in (self.let_go, self.server.finished)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        writer.write(self.rest)
