"""What ended containers have left of their images: out of the way at once, and gone soon after."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest

from mesocosm.container import ImageRequest
from mesocosm.images.paths import containers_directory, provisioner_directory, removed_directory
from mesocosm.images.removal import Removal
from tests.image_store import DirectoryStore, image
from tests.launching import Launch

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"


@pytest.fixture
def directory(launch: Launch, store: DirectoryStore, rootfs: Path) -> Path:
    launch.containerizer(ISOLATION, image_providers=("docker",))
    store.add(image("box", rootfs))
    return provisioner_directory(launch.flags.work_dir)


async def ended(launch: Launch) -> None:
    container = await launch("mkdir /a; echo more > /a/file", isolation=ISOLATION, image=ImageRequest("box"))
    assert await container.wait() == 0


async def test_nothing_is_left_when_the_containerizer_is_closed(launch: Launch, directory: Path) -> None:
    for _ in range(3):
        await ended(launch)
        assert list(containers_directory(directory).iterdir()) == []
    await launch.containerizer().close()
    assert list(removed_directory(directory).iterdir()) == []


async def test_what_an_earlier_containerizer_could_not_finish(launch: Launch, directory: Path) -> None:
    (removed_directory(directory) / "of-one-that-was-killed/deep").mkdir(parents=True)
    await launch.successor()
    await launch.successor()
    assert list(removed_directory(directory).iterdir()) == []


async def test_what_cannot_be_removed_is_told_and_counted(
    run_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    removal = Removal(run_directory / "removed")
    stubborn, other = run_directory / "stubborn", run_directory / "other"
    for path in (stubborn, other):
        path.mkdir()
        (path / "file").touch()
    if subprocess.run(["chattr", "+i", stubborn / "file"], check=False).returncode != 0:  # noqa: ASYNC221 - at once.
        pytest.skip("this file system has no immutable files")
    with caplog.at_level(logging.ERROR):
        await removal.take(stubborn)
        await removal.take(other)
        await removal.take(run_directory / "gone")
        await removal.finish()
    [left] = (run_directory / "removed").iterdir()
    assert removal.errors == 1
    assert f"{left} cannot be removed, and is left for the next start" in caplog.text
    subprocess.run(["chattr", "-i", left / "file"], check=True)  # noqa: ASYNC221 - at once.
    await removal.recover()
    await removal.finish()
    assert list((run_directory / "removed").iterdir()) == []


async def test_many_do_not_pile_up(run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesocosm.images.removal._MOST", 4)
    removal = Removal(run_directory / "removed")
    for number in range(50):
        path = run_directory / str(number)
        (path / "deep/deeper").mkdir(parents=True)
        await removal.take(path)
        assert len(list((run_directory / "removed").iterdir())) <= 5
    await removal.finish()
    assert list((run_directory / "removed").iterdir()) == []
