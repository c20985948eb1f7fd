"""What lies in sandboxes that are removed: mounts, and files of other users."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mesocosm.agent.gc import GarbageCollector
from tests.launching import TIMEOUT
from tests.machine import mount_points

pytestmark = pytest.mark.kernel
NOBODY = 65534


class Collecting:
    """A collector that removes at once, and the next path that is gone."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.removed: asyncio.Queue[Path] = asyncio.Queue()
        self.failed = asyncio.Event()
        self.gc = GarbageCollector(0.0, 0.1, 0.02, work_dir, self.removed.put, used=lambda _: 0.0)

    async def next(self) -> Path:
        return await asyncio.wait_for(self.removed.get(), TIMEOUT)

    async def failures(self, count: int) -> None:
        """Returns when so many removals have failed: something else is scheduled, and removed after each."""
        for number in range(10000):
            if self.gc.path_removals_failed >= count:
                return
            other = self.work_dir / f"other{number}"
            other.mkdir()
            self.gc.schedule(other, time.time())
            assert await self.next() == other
        pytest.fail("it was not tried again")


@pytest.fixture
async def collecting(run_directory: Path) -> AsyncIterator[Collecting]:
    work_dir = run_directory / "work"
    work_dir.mkdir()
    made = Collecting(work_dir)
    yield made
    made.gc.close()


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    mounted: list[Path] = []

    def do(*arguments: str | Path) -> None:
        subprocess.run(["mount", *arguments], check=True)
        mounted.append(Path(arguments[-1]))

    yield do
    for target in reversed(mounted):
        if target in mount_points():
            subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize("kind", ["bind", "bind of a file", "tmpfs", "itself"])
async def test_what_is_mounted_is_not_removed(
    collecting: Collecting, run_directory: Path, mount: Callable[..., None], kind: str
) -> None:
    volume, sandbox = run_directory / "volume", collecting.work_dir / "sandbox"
    (volume / "in").mkdir(parents=True)
    (volume / "in" / "precious").write_text("data")
    (sandbox / "a" / "target").mkdir(parents=True)
    (sandbox / "a" / "file").touch()
    (sandbox / "a" / "log").touch()
    target = {"bind of a file": sandbox / "a" / "file", "itself": sandbox}.get(kind, sandbox / "a" / "target")
    if kind == "tmpfs":
        mount("-t", "tmpfs", "none", target)
        (target / "precious").write_text("data")
    else:
        mount("--bind", volume / "in" / "precious" if kind == "bind of a file" else volume, target)
    collecting.gc.schedule(sandbox, time.time())
    await collecting.failures(2)
    assert target in mount_points()
    assert (volume / "in" / "precious").read_text() == "data"
    if kind == "tmpfs":
        assert (target / "precious").read_text() == "data"
    subprocess.run(["umount", target], check=True)  # noqa: ASYNC221 - at once.
    if kind != "itself":
        assert not (sandbox / "a" / "log").exists(), "what can be removed is"
    assert await collecting.next() == sandbox
    assert (volume / "in" / "precious").read_text() == "data"


async def test_files_of_other_users(collecting: Collecting) -> None:
    sandbox = collecting.work_dir / "sandbox"
    closed = sandbox / "closed" / "below"
    closed.mkdir(parents=True)
    (closed / "file").touch(mode=0)
    for path in (closed / "file", closed, closed.parent):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0)
    collecting.gc.schedule(sandbox, time.time())
    assert await collecting.next() == sandbox
    assert not sandbox.exists()


async def test_what_cannot_be_removed_is_tried_again(collecting: Collecting, caplog: pytest.LogCaptureFixture) -> None:
    sandbox = collecting.work_dir / "sandbox"
    sandbox.mkdir()
    (sandbox / "stubborn").touch()
    (sandbox / "other").touch()
    done = subprocess.run(["chattr", "+i", sandbox / "stubborn"], check=False)  # noqa: ASYNC221 - at once.
    if done.returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        collecting.gc.schedule(sandbox, time.time())
        await collecting.failures(2)
        assert [path.name for path in sandbox.iterdir()] == ["stubborn"]
        assert "Operation not permitted: 'sandbox/stubborn'" in caplog.text
    finally:
        subprocess.run(["chattr", "-i", sandbox / "stubborn"], check=True)  # noqa: ASYNC221 - at once.
    assert await collecting.next() == sandbox
