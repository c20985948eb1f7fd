"""How much a directory holds, against du(1) and whatever a container may do to a walk."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesocosm.linux import measuring as module
from mesocosm.linux import usage
from mesocosm.linux.measuring import MeasuringProcess
from mesocosm.linux.tree import remove_tree
from mesocosm.linux.usage import measure


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "measured"
    directory.mkdir()
    yield directory
    parent = os.open(tmp_path, os.O_RDONLY)
    for _ in remove_tree(parent, directory.name):  # Which copes with any depth.
        pass
    os.close(parent)


def du(path: Path) -> int:
    """What du(1) counts, in bytes."""
    command = ["du", "--summarize", "--one-file-system", "--block-size=1", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


def fill(path: Path, size: int) -> None:
    path.write_bytes(os.urandom(size))


def test_files_and_directories_count_as_du_counts_them(directory: Path) -> None:
    empty = measure(str(directory))
    for name in ("a", "b/c", "b/d/e"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(path, 100_000)
    (directory / "sparse").touch()
    os.truncate(directory / "sparse", 1 << 30)
    assert measure(str(directory)) == du(directory)
    assert 300_000 <= measure(str(directory)) - empty < 400_000


def test_a_file_with_two_names_counts_once(directory: Path) -> None:
    fill(directory / "file", 100_000)
    before = measure(str(directory))
    (directory / "again").hardlink_to(directory / "file")
    assert measure(str(directory)) == before == du(directory)


def test_no_link_is_followed_but_the_directory_itself(directory: Path, tmp_path: Path) -> None:
    fill(tmp_path / "outside", 1 << 20)
    (directory / "file").symlink_to(tmp_path / "outside")
    (directory / "above").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(directory)
    assert measure(str(directory)) == measure(str(tmp_path / "link")) < 1 << 20


def test_fifos_sockets_and_odd_names_are_no_trouble(directory: Path) -> None:
    os.mkfifo(directory / "fifo")
    (directory / "new\nline").mkdir()
    odd = directory / os.fsdecode(b"\xff\xfe")
    odd.mkdir()
    fill(odd / "file", 50_000)
    assert measure(str(directory)) == du(directory)


def test_depth_beyond_the_longest_path(directory: Path) -> None:
    current = os.open(directory, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("directory-d", dir_fd=current)
        following = os.open("directory-d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    shallow = measure(str(directory))
    descriptor = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=current)
    os.write(descriptor, os.urandom(1 << 20))
    os.close(descriptor)
    os.close(current)
    assert measure(str(directory)) - shallow >= 1 << 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_counts_as_nothing(directory: Path) -> None:
    secret = directory / "secret"
    secret.mkdir()
    fill(secret / "file", 1 << 20)
    secret.chmod(0)
    assert measure(str(directory)) < 1 << 20
    secret.chmod(0o700)


def test_a_directory_that_moves_away_does_not_end_the_walk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the walk is in it, it goes to where its `..` is another directory, outside of what is measured."""
    inner = directory / "one" / "inner"
    inner.mkdir(parents=True)
    (directory / "two").mkdir()
    for parent in (directory, directory / "two"):
        fill(parent / "file", 50_000)
    away = directory.parent / "away"
    original = usage.Walk._descend

    def descend(walk: usage.Walk, name: str) -> None:
        original(walk, name)
        if name == "inner":
            inner.rename(away)

    expected = du(directory)
    monkeypatch.setattr(usage.Walk, "_descend", descend)
    assert measure(str(directory)) == expected
    shutil.rmtree(away)


def test_a_tree_that_changes_is_no_error(directory: Path) -> None:
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for name in ("a", "b"):
                (directory / name / "x" / "y").mkdir(parents=True, exist_ok=True)
                (directory / name / "x" / "file").write_text("text")
                shutil.rmtree(directory / name, ignore_errors=True)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(50):
            measure(str(directory))
    finally:
        stop.set()
        thread.join()


def test_a_directory_that_grows_while_it_is_read(directory: Path) -> None:
    """Each that the walk comes to has one more in it, with a file, when it is looked at."""

    class Growing(usage.Walk):
        left = 300

        def enter(self, directory: int) -> None:
            if self.left:
                self.left -= 1
                os.mkdir("deeper", dir_fd=directory)
                with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory), "wb") as file:
                    file.write(os.urandom(10_000))

    walk = Growing(str(directory))
    try:
        walk.run()
    finally:
        walk.close()
    assert walk.left == 0
    assert walk.used == du(directory)


def test_few_descriptors_are_taken_and_all_given_back(directory: Path) -> None:
    (directory / "/".join(["d"] * 100)).mkdir(parents=True)
    before = len(list(Path("/dev/fd").iterdir()))
    measure(str(directory))
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_no_such_directory() -> None:
    with pytest.raises(FileNotFoundError):
        measure("/no/such/directory")


# The process.


@pytest.fixture
async def measuring() -> AsyncIterator[MeasuringProcess]:
    process = MeasuringProcess()
    yield process
    await process.close()


async def test_many_at_once(measuring: MeasuringProcess, directory: Path) -> None:
    paths = [directory / str(number) for number in range(20)]
    for number, path in enumerate(paths):
        path.mkdir()
        fill(path / "file", number * 10_000)
    found = await asyncio.gather(*map(measuring.measure, paths))
    assert found == [du(path) for path in paths]


async def test_errors_name_the_directory(measuring: MeasuringProcess) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/directory"):
        await measuring.measure(Path("/no/such/directory"))


async def test_another_process_takes_the_place_of_one_that_was_killed(
    measuring: MeasuringProcess, directory: Path
) -> None:
    await measuring.measure(directory)
    assert measuring._process is not None
    first = measuring._process
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    assert measuring._reader is not None
    await measuring._reader
    assert await measuring.measure(directory) == du(directory)
    assert measuring._process is not first


async def test_who_waits_is_told_of_the_end_of_the_process(measuring: MeasuringProcess, directory: Path) -> None:
    await measuring.measure(directory)
    assert measuring._process is not None
    os.kill(measuring._process.pid, signal.SIGSTOP)
    waiting = asyncio.ensure_future(measuring.measure(directory))
    await asyncio.sleep(0)
    os.kill(measuring._process.pid, signal.SIGKILL)
    with pytest.raises(OSError, match="the process that measures has ended"):
        await waiting


async def test_one_that_takes_too_long_is_given_up(
    measuring: MeasuringProcess, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may add names faster than they can be counted. The process that would count is stopped here."""
    await measuring.measure(directory)
    assert measuring._process is not None
    os.kill(measuring._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "_LONGEST", 0.05)
    with pytest.raises(TimeoutError, match=str(directory)):
        await measuring.measure(directory)
    assert measuring._pending == {}
    monkeypatch.undo()
    os.kill(measuring._process.pid, signal.SIGCONT)
    assert await measuring.measure(directory) == du(directory), "there is room for the next one"


async def test_a_measuring_that_is_cancelled_has_no_process_any_more(
    measuring: MeasuringProcess, directory: Path, tmp_path: Path
) -> None:
    await measuring.measure(directory)
    assert measuring._process is not None
    pid = measuring._process.pid
    for number in range(300):
        (directory / f"d{number}").mkdir()
    waiting = [asyncio.ensure_future(measuring.measure(directory)) for _ in range(8)]
    await asyncio.sleep(0.01)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert await measuring.measure(tmp_path / "measured/d1") == du(directory / "d1")
    assert measuring._pending == {}
    await measuring.close()
    assert not Path(f"/proc/{pid}").exists()
