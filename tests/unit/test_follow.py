"""Files that are followed as they grow, with all that can be done to them, by any number of readers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mesocosm.agent.files import Files, FilesError
from mesocosm.linux.inotify import IN_MODIFY, Notifier
from mesocosm.linux.lease import is_written
from mesocosm.switchboard import chunks
from mesocosm.switchboard.chunks import SharedFiles
from mesocosm.switchboard.follow import Beginning, BehindError, BeyondError, Follow, follow
from tests.command_line import TIMEOUT

Reader = Callable[..., Awaitable[Follow]]


@pytest.fixture
async def files() -> AsyncIterator[SharedFiles]:
    with ThreadPoolExecutor(2) as threads:
        shared = SharedFiles(threads)
        yield shared
        shared.close()


@pytest.fixture
async def read(files: SharedFiles, tmp_path: Path) -> AsyncIterator[Reader]:
    """Begins to follow `log` of the test's directory; what has ended is what the test says."""
    begun: list[Follow] = []

    async def begin(
        offset: int | None = 0, ended: asyncio.Future[None] | None = None, *, oldest: bool = False
    ) -> Follow:
        directory = os.open(tmp_path, os.O_PATH)
        begun.append(await follow(files, directory, [Beginning("log", bytes, offset, oldest)], ended))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()
    assert not files._opened


async def some(reader: Follow) -> bytes:
    return await asyncio.wait_for(anext(reader), TIMEOUT)


async def rest(reader: Follow) -> bytes:
    async with asyncio.timeout(TIMEOUT):
        return b"".join([piece async for piece in reader])


def ended() -> asyncio.Future[None]:
    """The end of a container, which was before."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as opened:
        opened.write(data)


def rotate(log: Path, count: int) -> None:
    """As logrotate does."""
    log.with_name(f"log.{count}").unlink(missing_ok=True)
    for number in range(count, 0, -1):
        older = log.with_name(f"log.{number}")
        newer = log if number == 1 else log.with_name(f"log.{number - 1}")
        if newer.exists():
            newer.rename(older)
    if not count:
        log.unlink()
    log.touch()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").write_bytes(b"old\n")
    return tmp_path / "log"


async def test_what_is_at_the_same_place_is_read_once(
    read: Reader, log: Path, files: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(os.urandom(3 * chunks.CHUNK + 5))
    put: list[int] = []
    keep = files.kept.put

    def note(place: chunks.Place, data: bytes) -> chunks.Chunk:
        if files.kept.get(place) is None:  # Those who have waited for the disk come one after the other.
            put.append(place[1])
        return keep(place, data)

    monkeypatch.setattr(files.kept, "put", note)
    readers = [await read(0, ended()) for _ in range(10)]
    pieces = await asyncio.gather(*(rest(reader) for reader in readers))
    assert set(pieces) == {log.read_bytes()}
    assert put == [0, chunks.CHUNK, 2 * chunks.CHUNK, 3 * chunks.CHUNK]


async def test_those_who_began_elsewhere_meet(read: Reader, log: Path) -> None:
    log.write_bytes(bytes(2 * chunks.CHUNK))
    first, second = await read(0, ended()), await read(7, ended())
    assert (len(await some(first)), len(await some(second))) == (chunks.CHUNK, chunks.CHUNK - 7)
    assert await some(first) is await some(second)


async def test_no_more_is_kept_than_there_is_room_for() -> None:
    kept = chunks.Kept(most=10)
    for offset in range(0, 40, 4):
        kept.put((0, offset), b"1234")
    assert [kept.get((0, offset)) is not None for offset in (24, 28, 32, 36)] == [False, False, True, True]


async def test_who_is_slow_reads_all_files_in_their_order(read: Reader, log: Path) -> None:
    reader = await read()
    assert await some(reader) == b"old\n"
    for number in range(3):
        append(log, b"end %d\n" % number)
        rotate(log, 4)
        append(log, b"begin %d\n" % number)
    assert b"".join([await some(reader) for _ in range(4)]) == b"end 0\nbegin 0\nend 1\nbegin 1\nend 2\nbegin 2\n"


async def test_who_is_too_slow_is_told_so(read: Reader, log: Path) -> None:
    reader = await read()
    for _ in range(3):
        rotate(log, 2)
        append(log, b"new\n")
    assert await some(reader) == b"old\n"
    with pytest.raises(BehindError, match="removed faster than they are read"):
        await some(reader)


async def test_full_files_need_not_be_kept(read: Reader, log: Path) -> None:
    reader = await read()
    assert await some(reader) == b"old\n"
    rotate(log, 0)
    append(log, b"new\n")
    assert await some(reader) == b"new\n"


async def test_a_name_that_comes_later_is_waited_for(read: Reader, log: Path) -> None:
    reader = await read(None)
    log.rename(log.with_name("log.1"))
    waiting = asyncio.ensure_future(some(reader))
    await asyncio.sleep(0.05)
    (log.parent / "other").touch()
    log.write_bytes(b"new\n")
    assert await waiting == b"new\n"


async def test_one_that_was_renamed_otherwise_is_followed_on(read: Reader, log: Path) -> None:
    reader = await read(None)
    moved = log.rename(log.with_name("elsewhere"))
    log.symlink_to("/etc/passwd")
    append(moved, b"more\n")
    assert await some(reader) == b"more\n"


async def test_what_is_truncated_begins_anew(read: Reader, log: Path) -> None:
    early, late = await read(), await read(None)
    assert await some(early) == b"old\n"
    log.write_bytes(b"x\n")
    assert (await some(early), await some(late)) == (b"x\n", b"x\n")


async def test_those_that_were_full_come_first(read: Reader, log: Path) -> None:
    """Also if they are renamed meanwhile."""
    alone = await read(None, ended(), oldest=True)
    assert await rest(alone) == b"old\n"
    log.rename(log.with_name("log.2"))
    log.with_name("log.1").write_bytes(b"full\n")
    log.write_bytes(b"now\n")
    reader = await read(None, ended(), oldest=True)
    assert await some(reader) == b"old\n"
    for newer, older in (("log.2", "log.3"), ("log.1", "log.2"), ("log", "log.1")):
        log.with_name(newer).rename(log.with_name(older))
    log.write_bytes(b"last\n")
    assert await rest(reader) == b"full\nnow\nlast\n"


async def test_nothing_is_followed_from_beyond_the_end(read: Reader, log: Path) -> None:
    assert log.stat().st_size == 4
    await read(4)
    with pytest.raises(BeyondError, match=r"^offset 5 is beyond the end of the file, which has 4 bytes$"):
        await read(5)


async def test_a_writer_is_waited_for_at_the_end(read: Reader, log: Path) -> None:
    with log.open("ab", buffering=0) as writer:
        reader = await read(None, ended())
        waiting = asyncio.ensure_future(rest(reader))
        await asyncio.sleep(0.05)
        writer.write(b"last\n")
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert await waiting == b"last\n"


async def test_but_not_for_ever(read: Reader, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesocosm.switchboard.follow.LINGER", 0.05)
    with log.open("ab"):
        assert await rest(await read(0, ended())) == b"old\n"


async def test_small_writes_are_gathered(read: Reader, log: Path) -> None:
    reader, writes = await read(None), 5000

    def write() -> None:
        with log.open("ab", buffering=0) as file:
            for _ in range(writes):
                file.write(b".")

    writing, taken, pieces = asyncio.ensure_future(asyncio.to_thread(write)), 0, 0
    while taken < writes:
        taken += len(await some(reader))
        pieces += 1
    await writing
    assert pieces < writes / 5


async def test_a_wait_can_be_given_up(read: Reader, log: Path) -> None:
    reader = await read()
    assert await some(reader) == b"old\n"
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(reader), 0.01)
    append(log, b"new\n")
    assert await some(reader) == b"new\n"


async def test_a_link_leads_nowhere_but_into_the_sandbox(tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/stdout").touch()
    (sandbox / "containers").symlink_to("../secret")
    files = Files()
    files.attach("/containers/x", sandbox)
    with pytest.raises(FilesError, match="No such file or directory"):
        await files.open_real(sandbox, "containers")
    with pytest.raises(FilesError, match="No such file or directory"):
        await files.open_parent("/containers/x/containers/stdout")


# What the kernel tells.


async def test_a_watch_tells_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    notifier, told = Notifier(), asyncio.Queue[int]()
    descriptor = os.open(file, os.O_PATH)
    notifier.watch(descriptor, IN_MODIFY, lambda: told.put_nowait(1))
    append(file, b"x")
    append(file, b"y")
    await asyncio.wait_for(told.get(), TIMEOUT)
    watch = notifier.watch(descriptor, IN_MODIFY, lambda: told.put_nowait(2))
    notifier.forget(watch)
    notifier.forget(watch)
    last = notifier.watch(descriptor, IN_MODIFY, lambda: told.put_nowait(3))
    append(file, b"z")
    assert await asyncio.wait_for(told.get(), TIMEOUT) == 3
    notifier.forget(last)
    notifier.close()
    os.close(descriptor)


def test_a_lease_tells_of_writers(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with file.open("rb") as reader:
        assert not is_written(reader.fileno())
        with file.open("ab"):
            assert is_written(reader.fileno())
        assert not is_written(reader.fileno())
