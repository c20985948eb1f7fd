"""A disk that is full, for the state or for the sandboxes, fails a launch and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import MesocosmError
from tests.launching import TIMEOUT, Launch

pytestmark = pytest.mark.kernel


@pytest.fixture
def small_disk(run_directory: Path) -> Iterator[Path]:
    directory = run_directory / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=100", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def fill(directory: Path) -> None:
    with suppress(OSError), (directory / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def use_up_names(directory: Path) -> None:
    with suppress(OSError):
        for number in range(200):
            (directory / f"filler{number}").touch()


@pytest.mark.parametrize("place", ["runtime_dir", "work_dir"])
@pytest.mark.parametrize("use_up", [fill, use_up_names])
async def test_no_launch_on_a_full_disk(
    small_disk: Path, launch: Launch, place: str, use_up: Callable[[Path], None]
) -> None:
    launch.flags = replace(launch.flags, **{place: small_disk / "here"})
    containerizer = launch.containerizer()
    first = await launch.sleeping(name="first")
    use_up(small_disk)
    config = ContainerConfig(CommandInfo("echo something; exit 0"))
    for number in range(3):
        container_id = ContainerID(f"x{number}")
        try:
            await asyncio.wait_for(containerizer.launch(container_id, config), TIMEOUT)
            await asyncio.wait_for(containerizer.wait(container_id), TIMEOUT)
        except (MesocosmError, OSError) as error:
            assert "No space left" in str(error)  # noqa: PT017 - a launch that needs no space may succeed.
            assert not launch.sandbox(container_id).exists()
            assert not (launch.flags.runtime_dir / "containers" / str(container_id)).exists()
    first.say("end")
    assert await first.wait() == 0, "the one that ran ends as ever"
    for filler in small_disk.glob("filler*"):
        filler.unlink()
    assert await launch.output("echo space") == "space"
