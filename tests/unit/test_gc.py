"""What is removed when it is old, or when the disk is full, and what is not."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.agent.gc import GarbageCollector, used_part
from mesocosm.errors import FlagError
from mesocosm.linux.tree import remove_tree

DELAY = 100.0
HEADROOM = 0.1
TIMEOUT = 20.0
LOOKS_OFTEN = 0.005
SELDOM = 3600.0


class World:
    """A time and a disk as a test wants them, and what the collector has made of them."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.now = 1000.0
        self.used = 0.0
        self.removed: asyncio.Queue[Path] = asyncio.Queue()
        self._looked: asyncio.Queue[None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._collectors: list[GarbageCollector] = []

    def collector(self, interval: float = LOOKS_OFTEN, delay: float = DELAY) -> GarbageCollector:
        made = GarbageCollector(
            delay, HEADROOM, interval, self.work_dir, self.removed.put, clock=lambda: self.now, used=self._look
        )
        self._collectors.append(made)
        return made

    def _look(self, directory: Path) -> float:
        assert directory == self.work_dir
        self._loop.call_soon_threadsafe(self._looked.put_nowait, None)
        return self.used

    async def look(self) -> None:
        """Returns when a look at the disk that began after this call, and what it leads to, is over."""
        while not self._looked.empty():
            self._looked.get_nowait()
        for _ in range(3):
            await asyncio.wait_for(self._looked.get(), TIMEOUT)

    async def next(self) -> Path:
        """The next path that is removed."""
        return await asyncio.wait_for(self.removed.get(), TIMEOUT)

    def make(self, name: str) -> Path:
        path = self.work_dir / name
        path.mkdir(parents=True)
        (path / "stdout").write_text("output\n")
        return path

    def close(self) -> None:
        for collector in self._collectors:
            collector.close()


@pytest.fixture
async def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def remove(path: Path) -> None:
    """Removes a directory to its end."""
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        for _ in remove_tree(parent, path.name):
            pass
    finally:
        os.close(parent)


async def test_removed_when_it_is_old_enough(world: World) -> None:
    gc = world.collector()
    path = world.make("containers/x")
    gc.schedule(path, world.now)
    world.now += DELAY * (1 - HEADROOM) - 1
    await world.look()
    assert path.exists()
    assert gc.path_removals_pending == 1
    world.now += 1
    assert await world.next() == path
    assert not path.exists()
    assert path.parent.exists()
    assert (gc.path_removals_succeeded, gc.path_removals_failed, gc.path_removals_pending) == (1, 0, 0)


async def test_the_timer_is_that_of_the_first_one(world: World) -> None:
    gc = GarbageCollector(0.1, 0.0, SELDOM, world.work_dir, world.removed.put, used=lambda _: 0.0)
    first, second = world.make("first"), world.make("second")
    begin = time.time()
    gc.schedule(second, begin)
    gc.schedule(first, begin - 0.05)
    assert await world.next() == first
    assert time.time() >= begin + 0.05
    assert await world.next() == second
    assert time.time() >= begin + 0.1


async def test_what_is_old_already_is_removed_at_once(world: World) -> None:
    gc = world.collector(SELDOM)
    oldest, newer = world.make("oldest"), world.make("newer")
    gc.schedule(newer, world.now - DELAY)
    gc.schedule(oldest, world.now - 2 * DELAY)
    assert [await world.next(), await world.next()] == [oldest, newer]


async def test_unscheduled(world: World) -> None:
    gc = world.collector()
    kept, other = world.make("kept"), world.make("other")
    for path in (kept, other):
        gc.schedule(path, world.now)
    assert gc.unschedule(kept)
    assert not gc.unschedule(kept)
    assert not gc.unschedule(world.work_dir / "never")
    world.now += DELAY
    assert await world.next() == other
    assert not gc.unschedule(other), "it is gone"
    assert kept.exists()


async def test_what_comes_back_waits_for_a_removal_that_has_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc = world.collector()
    begun, goes_on = asyncio.Event(), threading.Event()
    loop, path = asyncio.get_running_loop(), world.make("comes back")
    removal = gc._remove_path

    def slowly(removed: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait()
        removal(removed)

    monkeypatch.setattr(gc, "_remove_path", slowly)
    assert not await gc.await_removal(path)
    gc.schedule(path, world.now)
    assert not await gc.await_removal(path), "it has not begun, and never will"
    gc.schedule(path, world.now - DELAY)
    await begun.wait()
    waiting = asyncio.create_task(gc.await_removal(path))
    await asyncio.sleep(0)
    assert not waiting.done()
    goes_on.set()
    assert await waiting
    assert not path.exists()
    assert await world.next() == path


async def test_scheduled_anew(world: World) -> None:
    gc = world.collector()
    path = world.make("x")
    gc.schedule(path, world.now - DELAY / 2)
    gc.schedule(path, world.now)
    assert gc.path_removals_pending == 1
    world.now += DELAY / 2
    await world.look()
    assert path.exists()
    world.now += DELAY / 2
    assert await world.next() == path


async def test_a_time_in_the_future_keeps_nothing(world: World) -> None:
    gc = world.collector()
    path = world.make("x")
    gc.schedule(path, world.now + 1000 * DELAY)
    world.now += DELAY
    assert await world.next() == path


@pytest.mark.parametrize(("used", "age"), [(0.0, 90.0), (0.4, 50.0), (0.85, 5.0)])
async def test_sooner_where_the_disk_is_full(world: World, used: float, age: float) -> None:
    gc = world.collector()
    world.used = used
    old, new = world.make("old"), world.make("new")
    gc.schedule(old, world.now - age - 0.001)
    gc.schedule(new, world.now - age + 1)
    assert await world.next() == old
    await world.look()
    assert new.exists()
    world.used = 1.0
    assert await world.next() == new, "the disk has become fuller"


@pytest.mark.parametrize("used", [0.9, 1.0])
async def test_at_once_where_it_has_less_room_than_the_headroom(world: World, used: float) -> None:
    gc = world.collector()
    world.used = used
    path = world.make("x")
    gc.schedule(path, world.now)
    assert await world.next() == path


async def test_looks_at_the_disk_only_that_often(world: World) -> None:
    gc = world.collector(SELDOM)
    young, first, second = world.make("young"), world.make("first"), world.make("second")
    gc.schedule(young, world.now)
    gc.schedule(first, world.now - DELAY)
    assert await world.next() == first, "it has looked"
    world.used = 1.0
    gc.schedule(second, world.now - DELAY)
    assert await world.next() == second, "its time has come"
    assert young.exists(), "it is not known yet how full the disk is"


async def test_a_disk_that_cannot_be_looked_at(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Path) -> float:
        raise OSError(5, "Input/output error")

    gc = GarbageCollector(0.0, 0.0, SELDOM, world.work_dir, world.removed.put, used=broken)
    path = world.make("x")
    gc.schedule(path, time.time())
    assert await world.next() == path
    assert "cannot be told" in caplog.text


def test_how_full_a_disk_is(tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    assert used_part(tmp_path) == pytest.approx(usage.used / usage.total, abs=0.1)


async def test_what_is_gone_already_is_no_failure(world: World) -> None:
    gc = world.collector()
    parent, nested = world.make("x"), world.make("x/containers/y")
    gc.schedule(parent, world.now - DELAY - 1)
    gc.schedule(nested, world.now - DELAY)
    assert [await world.next(), await world.next()] == [parent, nested]
    assert (gc.path_removals_succeeded, gc.path_removals_failed) == (1, 0)


async def test_closed(world: World) -> None:
    gc = world.collector()
    path = world.make("x")
    gc.schedule(path, world.now)
    gc.close()
    assert gc.path_removals_pending == 0
    assert path.exists()


async def test_a_callback_that_fails_does_not_stop_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(path: Path) -> None:
        await world.removed.put(path)
        raise RuntimeError("forgotten")

    gc = GarbageCollector(DELAY, HEADROOM, LOOKS_OFTEN, world.work_dir, fail, used=lambda _: 0.0)
    paths = [world.make("a"), world.make("b")]
    for number, path in enumerate(paths):
        gc.schedule(path, number)
    assert [await world.next(), await world.next()] == paths
    gc.close()
    assert "forgotten" in caplog.text


@pytest.mark.parametrize("headroom", [-0.1, 1.1])
def test_a_headroom_that_is_none(tmp_path: Path, headroom: float) -> None:
    with pytest.raises(FlagError, match="--gc_disk_headroom"):
        GarbageCollector(DELAY, headroom, SELDOM, tmp_path)


@pytest.mark.parametrize("path", ["", "..", "../x", "a/../../x", "/etc/passwd"])
async def test_only_what_is_in_the_work_directory(world: World, path: str) -> None:
    gc = world.collector()
    with pytest.raises(ValueError, match="is not"):
        gc.schedule(world.work_dir / path, 0)


async def test_a_link_on_the_way_leads_nowhere(world: World) -> None:
    """The sandbox of a nested container is in that of its parent, who can put a link in its place."""
    gc = world.collector()
    sandbox, victim = world.make("containers/evil"), world.make("containers/victim")
    (sandbox / "containers").symlink_to(victim.parent)
    path = sandbox / "containers" / "victim"
    gc.schedule(path, world.now - DELAY)
    while not gc.path_removals_failed:
        await world.look()
    assert (victim / "stdout").exists()
    assert gc.path_removals_pending == 1
    (sandbox / "containers").unlink()
    world.now += DELAY
    assert await world.next() == path


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    for link in (tree / "link", tree / "a" / "link", tree / "a" / "b" / "link"):
        link.symlink_to(outside)
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    (tree / "odd \udcff\n").touch()
    remove(tree)
    assert not tree.exists()
    assert (outside / "file").exists()
    (tmp_path / "link").symlink_to(outside)
    remove(tmp_path / "link")
    assert (outside / "file").exists()


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_very_deep_directory(tmp_path: Path, few_descriptors: None) -> None:
    depth = 5000
    current = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=current)
        below = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)
    remove(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_wide_directories(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(50):
        (tree / str(number) / "in").mkdir(parents=True)
        for name in range(30):
            (tree / str(number) / f"file{name}").touch()
    remove(tree)
    assert not tree.exists()


def test_it_can_be_stopped_between_steps(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(10):
        (tree / str(number)).touch()
    parent = os.open(tmp_path, os.O_RDONLY)
    steps = remove_tree(parent, "tree")
    for _ in range(5):
        next(steps)
    steps.close()
    os.close(parent)
    assert 1 <= len(list(tree.iterdir())) < 10


def test_a_directory_that_is_moved_meanwhile(tmp_path: Path) -> None:
    """It must not be left by way of the directory that it is in by then."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    (tree / "sub" / "below").mkdir(parents=True)
    for name in range(10):
        (tree / "sub" / "below" / str(name)).touch()
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    parent = os.open(tmp_path, os.O_RDONLY)
    steps = remove_tree(parent, "tree")
    while len(list((tree / "sub" / "below").iterdir())) > 5:
        next(steps)
    (tree / "sub" / "below").rename(elsewhere / "below")
    with pytest.raises(OSError, match="it was moved"):
        for _ in steps:
            pass
    os.close(parent)
    assert (elsewhere / "precious").exists()
    assert (tree / "sub").exists()
