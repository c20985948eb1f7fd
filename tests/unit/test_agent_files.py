"""The files that the agent shows: Mesos's behaviour, and what a hostile sandbox cannot do."""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Awaitable
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mesocosm.agent import files as module
from mesocosm.agent.files import MOST_BYTES, FileChunk, FileInfo, Files, FilesError
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.v0 import Endpoints

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs openat2(2)")

SECRET = "a secret of the host"


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A directory with a secret beside it."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "sandbox").mkdir()
    return tmp_path / "sandbox"


@pytest.fixture
def files(sandbox: Path) -> Files:
    files = Files()
    files.attach("/sandbox", sandbox)
    return files


async def status_of(answer: Awaitable[Any]) -> HTTPStatus:
    with pytest.raises(FilesError) as refused:
        await answer
    assert SECRET not in str(refused.value)
    return refused.value.status


async def text_at(files: Files, path: str) -> str:
    return (await files.read(path, 0)).data.decode()


async def downloaded(files: Files, path: str, principal: str | None = None) -> bytes:
    with await files.open_for_download(path, principal) as download:
        return b"".join([chunk async for chunk in download.chunks()])


# What is where.


async def test_attach_and_detach(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("body")
    (tmp_path / "dir").mkdir()
    files = Files()
    files.attach("name", tmp_path / "dir")
    files.attach("name", tmp_path / "file")
    files.attach("/dir/", tmp_path / "dir")
    files.attach("/missing", tmp_path / "missing")
    assert files.attached() == {
        "/dir": str(tmp_path / "dir"),
        "/missing": str(tmp_path / "missing"),
        "name": str(tmp_path / "file"),
    }
    assert await text_at(files, "name") == "body"
    assert await status_of(files.read("/missing")) is HTTPStatus.NOT_FOUND
    files.detach("name")
    files.detach("name")
    files.detach("/dir/")
    assert list(files.attached()) == ["/missing"]
    assert await status_of(files.read("name")) is HTTPStatus.NOT_FOUND


async def test_the_longest_attached_part_counts(tmp_path: Path) -> None:
    (tmp_path / "1/2").mkdir(parents=True)
    (tmp_path / "1/two").write_text("two")
    (tmp_path / "1/2/three").write_text("three")
    (tmp_path / "1/foo%3Abar").write_text("colon")
    files = Files()
    files.attach("one", tmp_path / "1")
    files.attach("/one/", tmp_path / "1")
    files.attach("two", tmp_path / "1/2")
    files.attach("one/two", tmp_path / "1/2")
    for path in ("one/2/three", "/one/2/three", "two/three", "one/two/three", "one//2/./three", "file:///one/2/three"):
        assert await text_at(files, path) == "three"
    assert await text_at(files, "one/foo%3Abar") == "colon"
    for path in ("one/2", "one", "one/", "one/two/"):
        assert await status_of(files.read(path)) is HTTPStatus.BAD_REQUEST, "a directory"
    for path in ("", "/", "/two/three", "three", "on", "one/two/four", "one/two/three/four"):
        assert await status_of(files.read(path)) is HTTPStatus.NOT_FOUND


async def test_the_root_can_be_attached(sandbox: Path) -> None:
    (sandbox / "file").write_text("body")
    files = Files()
    files.attach("/", sandbox)
    assert await text_at(files, "/file") == "body"
    assert [info.path for info in await files.browse("/")] == ["/file"]


# Reading.


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (-1, None, FileChunk(b"", 4, 4)),
        (-1, 2, FileChunk(b"", 4, 4)),
        (0, None, FileChunk(b"body", 0, 4)),
        (0, -1, FileChunk(b"body", 0, 4)),
        (0, 2, FileChunk(b"bo", 0, 4)),
        (1, 2, FileChunk(b"od", 1, 4)),
        (3, 9, FileChunk(b"y", 3, 4)),
        (0, 0, FileChunk(b"", 0, 4)),
        (4, None, FileChunk(b"", 4, 4)),
        (2**64 - 1, None, FileChunk(b"", 2**64 - 1, 4)),
        (0, 2**64 - 1, FileChunk(b"body", 0, 4)),
    ],
)
async def test_parts(files: Files, sandbox: Path, offset: int, length: int | None, expected: FileChunk) -> None:
    (sandbox / "file").write_text("body")
    assert await files.read("/sandbox/file", offset, length) == expected


async def test_parameters_that_make_no_sense(files: Files, sandbox: Path) -> None:
    (sandbox / "file").write_text("body")
    for arguments in ((-2, None), (0, -2)):
        with pytest.raises(FilesError, match=r"Negative (offset|length) provided: -2") as refused:
            await files.read("/sandbox/file", *arguments)
        assert refused.value.status is HTTPStatus.BAD_REQUEST


async def test_a_page_is_not_longer_than_in_mesos(files: Files, sandbox: Path) -> None:
    (sandbox / "file").write_bytes(os.urandom(MOST_BYTES + 5))
    for length in (None, MOST_BYTES + 1):
        assert len((await files.read("/sandbox/file", 0, length)).data) == MOST_BYTES == 16 * os.sysconf("SC_PAGE_SIZE")
    assert (await files.read("/sandbox/file", MOST_BYTES)).data == (sandbox / "file").read_bytes()[MOST_BYTES:]


def test_a_chunk_is_always_json() -> None:
    assert FileChunk("grün".encode(), 7, 20).to_json() == {"data": "grün", "offset": 7}
    assert FileChunk(b"a\xff\x00b\xc3", 0, 5).to_json() == {"data": "a\ufffd\x00b\ufffd", "offset": 0}


# Listing.


async def test_browse(files: Files, sandbox: Path) -> None:
    (sandbox / "dir").mkdir(mode=0o755)
    (sandbox / "two").write_text("two")
    (sandbox / "two").chmod(0o4644)
    os.utime(sandbox / "two", (1, 1348258116.75))
    for path in ("/sandbox", "/sandbox/"):
        listed = await files.browse(path)
        assert [info.path for info in listed] == ["/sandbox/dir", "/sandbox/two"]
    me = getpass.getuser()
    assert listed[1] == FileInfo("/sandbox/two", 1, 3, 1348258116, stat.S_IFREG | 0o4644, me, listed[1].gid)
    assert listed[1].to_json() == {
        "path": "/sandbox/two",
        "nlink": 1,
        "size": 3,
        "mtime": 1348258116.0,
        "mode": "-rw-r--r--",
        "uid": me,
        "gid": listed[1].gid,
    }
    assert listed[0].to_json()["mode"] == "drwxr-xr-x"
    assert await files.browse("/sandbox/dir") == []
    assert await files.browse("/sandbox/two") == []
    assert await status_of(files.browse("/sandbox/missing")) is HTTPStatus.NOT_FOUND


async def test_names_of_any_bytes(files: Files, sandbox: Path) -> None:
    Path(os.fsdecode(os.fsencode(sandbox) + b"/\xff\n")).touch()
    assert [info.path for info in await files.browse("/sandbox")] == ["/sandbox/\ufffd\n"]


async def test_a_directory_that_is_too_large(files: Files, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 3)
    for name in "abc":
        (sandbox / name).touch()
    assert len(await files.browse("/sandbox")) == 3
    (sandbox / "d").touch()
    assert await status_of(files.browse("/sandbox")) is HTTPStatus.BAD_REQUEST


# Downloads.


@pytest.mark.parametrize(
    ("name", "content_type", "disposition"),
    [
        ("black.gif", "image/gif", "attachment; filename=black.gif"),
        ("stdout", "application/octet-stream", "attachment; filename=stdout"),
        ("x.tar.gz", "application/octet-stream", "attachment; filename=x.tar.gz"),
        ("a.html", "text/html", "attachment; filename=a.html"),
        ('a";\r\n x', "application/octet-stream", "attachment; filename=a_____x; filename*=UTF-8''a%22%3B%0D%0A%20x"),
        ("grün", "application/octet-stream", "attachment; filename=gr_n; filename*=UTF-8''gr%C3%BCn"),
    ],
)
async def test_download(files: Files, sandbox: Path, name: str, content_type: str, disposition: str) -> None:
    content = os.urandom(600_000)
    (sandbox / name).write_bytes(content)
    assert await downloaded(files, f"/sandbox/{name}") == content
    with await files.open_for_download(f"/sandbox/{name}") as download:
        assert download.size == len(content)
        assert download.headers == {
            "Content-Type": content_type,
            "Content-Disposition": disposition,
            "X-Content-Type-Options": "nosniff",
        }
    assert download.file.closed


async def test_a_download_of_which_nothing_is_sent_is_closed(files: Files, sandbox: Path) -> None:
    """Its client may be gone before it begins."""
    (sandbox / "file").write_text("x")
    agent: Any = SimpleNamespace(sandboxes=SimpleNamespace(files=files))
    nobody: Any = None
    routes = Routes()
    Endpoints(agent, nobody, nobody, nobody, nobody, nobody).add_to(routes)
    request: Any = SimpleNamespace(path="/files/download", query={"path": "/sandbox/file"}, principal=None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    reply = await routes.find("/files/download", "GET").handler(request)
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    assert reply.release is not None
    reply.release()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_file_that_changes_while_it_is_sent(files: Files, sandbox: Path) -> None:
    (sandbox / "file").write_bytes(b"x" * 10)
    with await files.open_for_download("/sandbox/file") as download:
        with (sandbox / "file").open("ab") as more:
            more.write(b"y")
        assert [chunk async for chunk in download.chunks()] == [b"x" * 10]
        os.truncate(sandbox / "file", 4)
        assert [chunk async for chunk in download.chunks()] == [b"x" * 4]


async def test_an_attached_file(tmp_path: Path) -> None:
    (tmp_path / "agent.log").write_text("line")
    files = Files()
    files.attach("/slave/log", tmp_path / "agent.log")
    assert await text_at(files, "/slave/log") == "line"
    assert await status_of(files.read("/slave/log/x")) is HTTPStatus.NOT_FOUND
    with await files.open_for_download("/slave/log") as download:
        assert download.name == "agent.log"
    (tmp_path / "agent.log").rename(tmp_path / "agent.log.1")
    assert await status_of(files.read("/slave/log")) is HTTPStatus.NOT_FOUND
    (tmp_path / "agent.log").write_text("rotated")
    assert await text_at(files, "/slave/log") == "rotated"


# Who may see it.


async def test_authorization(sandbox: Path) -> None:
    (sandbox / "dir").mkdir()
    (sandbox / "file").write_text("body")
    files = Files()
    files.attach("/mine/", sandbox, lambda principal: principal == "me")
    files.attach("/mine/dir", sandbox / "dir")
    files.attach("/mine/open", sandbox, lambda _: True)
    for path in ("/mine", "/mine/", "/mine/dir", "/mine/missing", "/mine/file", "/mine//file", "/mine/open/../file"):
        for principal in (None, "you"):
            for answer in (files.browse(path, principal), files.read(path, 0, None, principal)):
                status = await status_of(answer)
                assert status is (HTTPStatus.BAD_REQUEST if ".." in path else HTTPStatus.FORBIDDEN)
    with pytest.raises(FilesError, match="'/mine/file' is not for you"):
        await downloaded(files, "/mine/file", "you")
    assert await downloaded(files, "/mine/file", "me") == b"body"
    assert len(await files.browse("/mine", "me")) == 2
    assert await text_at(files, "/mine/open/file") == "body"
    files.attach("/mine", sandbox)
    assert await text_at(files, "/mine/file") == "body"


# What a container could try.


@pytest.mark.parametrize("path", ["..", "../secret", "dir/../../secret", "../sandbox/file", "./../secret"])
async def test_paths_that_lead_out(files: Files, sandbox: Path, path: str) -> None:
    (sandbox / "dir").mkdir()
    assert await status_of(files.read(f"/sandbox/{path}")) is HTTPStatus.BAD_REQUEST
    assert await status_of(files.browse(f"/sandbox/{path}")) is HTTPStatus.BAD_REQUEST
    assert await status_of(downloaded(files, f"/sandbox/{path}")) is HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    "path",
    ["a\0b", "\ud800", "x" * 300, "x/" * 8_000_000 + "y"],
    ids=["nul", "surrogate", "long-name", "megabytes"],
)
async def test_paths_that_are_none(files: Files, path: str) -> None:
    assert await status_of(files.read(f"/sandbox/{path}")) is HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "{outside}/secret",
        "../../../../../../../../../../{outside}/secret",
        "/proc/self/root{outside}/secret",
        "/proc/self/cwd/secret",
        "/etc/passwd",
        "up/secret",
        "self",
        "loop",
    ],
)
async def test_links_that_lead_out(files: Files, sandbox: Path, target: str) -> None:
    (sandbox / "up").symlink_to("..")
    (sandbox / "self").symlink_to("/proc/self/fd/0")
    (sandbox / "loop").symlink_to("loop")
    (sandbox / "link").symlink_to(target.format(outside=sandbox.parent))
    for answer in (files.read("/sandbox/link", 0), downloaded(files, "/sandbox/link"), files.browse("/sandbox/link")):
        assert await status_of(answer) in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)
    shown = {info.path: info for info in await files.browse("/sandbox")}
    assert stat.S_ISLNK(shown["/sandbox/link"].mode), "nothing is told about what it leads to"
    assert "secret" not in str(await files.browse("/sandbox/up"))


async def test_links_that_stay_inside(files: Files, sandbox: Path) -> None:
    (sandbox / "dir").mkdir()
    (sandbox / "dir/file").write_text("body")
    (sandbox / "dir/up").symlink_to("../dir/file")
    (sandbox / "absolute").symlink_to("/dir")
    (sandbox / "dangling").symlink_to("nothing")
    assert await text_at(files, "/sandbox/dir/up") == "body"
    assert await text_at(files, "/sandbox/absolute/file") == "body"
    assert await text_at(files, "/sandbox/absolute/up") == "body"
    shown = {info.path.removeprefix("/sandbox/"): info.to_json()["mode"] for info in await files.browse("/sandbox")}
    assert {name: str(mode)[0] for name, mode in shown.items()} == {"dir": "d", "absolute": "d", "dangling": "l"}
    assert (await files.browse("/sandbox/dir"))[1].size == 4
    assert await status_of(files.read("/sandbox/dangling")) is HTTPStatus.NOT_FOUND


async def test_a_sandbox_inside_of_another(sandbox: Path) -> None:
    inside = "containers/kid"
    (sandbox / "containers").mkdir()
    (sandbox / inside).mkdir()
    (sandbox / inside / "stdout").write_text("hello")
    (sandbox / inside / "link").symlink_to("../../own")
    (sandbox / "own").write_text("of the parent")
    files = Files()
    files.attach("/kid", sandbox, inside=inside)
    assert files.attached() == {"/kid": str(sandbox / inside)}
    assert await text_at(files, "/kid/stdout") == "hello"
    assert await status_of(files.read("/kid/link")) is HTTPStatus.NOT_FOUND
    # The parent exchanges it.
    (sandbox / inside).rename(sandbox / "moved")
    (sandbox / inside).symlink_to(sandbox.parent)
    assert await status_of(files.read("/kid/secret")) is HTTPStatus.NOT_FOUND
    assert await status_of(files.browse("/kid")) is HTTPStatus.NOT_FOUND


async def test_what_is_no_regular_file(files: Files, sandbox: Path) -> None:
    os.mkfifo(sandbox / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(sandbox / "socket"))
    names = ["fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(sandbox / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        names.append("device")
    async with asyncio.timeout(5):
        for name in names:
            assert await status_of(files.read(f"/sandbox/{name}", 0)) is HTTPStatus.BAD_REQUEST
            assert await status_of(downloaded(files, f"/sandbox/{name}")) is HTTPStatus.BAD_REQUEST
            assert await files.browse(f"/sandbox/{name}") == []
        modes = {info.path[9:]: str(info.to_json()["mode"])[0] for info in await files.browse("/sandbox")}
    assert modes == {name: kind for name, kind in {"fifo": "p", "socket": "s", "device": "c"}.items() if name in names}


async def test_a_file_with_a_lease(files: Files, sandbox: Path) -> None:
    """Who opens it waits for its owner, up to 45 s (fcntl(2), F_SETLEASE), unless he does not want to."""
    path = sandbox / "file"
    path.write_text("body")
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # With which the owner is asked to give it up.
    try:
        with path.open("r+") as leased:
            try:
                fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError:
                pytest.skip("there are no leases on this file system")
            async with asyncio.timeout(5):
                assert await status_of(files.read("/sandbox/file", 0)) is HTTPStatus.INTERNAL_SERVER_ERROR
    finally:
        signal.signal(signal.SIGIO, before)
    assert await text_at(files, "/sandbox/file") == "body"


async def test_links_that_are_exchanged_all_the_time(files: Files, sandbox: Path) -> None:
    """The file, and a link out of the sandbox, in turn at the same place."""
    (sandbox / "dir").mkdir()
    (sandbox / "dir/secret").write_text("harmless")
    (sandbox / "out").symlink_to(sandbox.parent)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for first, then in (("dir", "kept"), ("out", "dir"), ("dir", "out"), ("kept", "dir")):
                (sandbox / first).rename(sandbox / then)

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(500):
            try:
                seen.add(await text_at(files, "/sandbox/dir/secret"))
                seen |= {str(info.size) for info in await files.browse("/sandbox/dir")} - {"8"}
            except FilesError as error:
                seen.add(error.status.phrase)
    finally:
        stop.set()
        thread.join()
    assert seen <= {"harmless", HTTPStatus.NOT_FOUND.phrase, HTTPStatus.BAD_REQUEST.phrase}
    assert "harmless" in seen


async def test_requests_that_are_given_up_leave_nothing_open(files: Files, sandbox: Path) -> None:
    (sandbox / "file").write_text("body")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        task = asyncio.ensure_future(downloaded(files, "/sandbox/file"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await text_at(files, "/sandbox/file") == "body"
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4
