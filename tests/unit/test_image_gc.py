"""`--image_gc_config`: what it may say, and when images are removed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesocosm.agent.image_gc import ImageGcConfig, watch
from mesocosm.errors import ContainerError, FlagError

INTERVAL = {"nanoseconds": 60_000_000_000}
GOOD = {"image_disk_headroom": 0.1, "image_disk_watch_interval": INTERVAL}


def test_the_message_of_mesos() -> None:
    image = {"type": "DOCKER", "docker": {"name": "debian:12"}}
    assert ImageGcConfig.parse({**GOOD, "excluded_images": [image]}) == ImageGcConfig(0.1, 60, ("debian:12",))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_disk_headroom": 1.5}, "headroom"),
        ({"image_disk_headroom": "0.1"}, "headroom"),
        ({"image_disk_headroom": None}, "headroom"),
        ({"image_disk_watch_interval": {"nanoseconds": 0}}, "interval"),
        ({"image_disk_watch_interval": "1mins"}, "interval"),
        ({"excluded_images": ["debian"]}, "no image in 'debian'"),
        ({"headroom": 1}, "no field 'headroom'"),
    ],
)
def test_what_makes_no_sense(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(FlagError, match=reason):
        ImageGcConfig.parse({**GOOD, **change})


@pytest.mark.parametrize(("used", "expected"), [([0.9, 0.91], [1]), ([0.5, 0.6], []), ([0.95, 0.95], [0, 1])])
async def test_images_are_removed_when_the_disk_is_full(tmp_path: Path, used: list[float], expected: list[int]) -> None:
    looked, pruned = 0, []
    all_looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def look(path: Path) -> float:
        nonlocal looked
        assert path == tmp_path
        looked += 1
        if looked > len(used):
            loop.call_soon_threadsafe(lambda: all_looked.done() or all_looked.set_result(None))
            return 0
        return used[looked - 1]

    async def prune() -> None:
        pruned.append(looked - 1)
        raise ContainerError("what cannot be removed is no reason to stop looking")

    watching = asyncio.create_task(watch(ImageGcConfig(0.1, 1e-9), tmp_path, prune, look))
    await asyncio.wait_for(all_looked, 20)
    watching.cancel()
    assert pruned == expected
