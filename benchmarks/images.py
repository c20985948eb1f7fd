"""How much longer `true` takes in a container of an image that is in the store than in one without an image.

The exit status is 1 where it takes more than 1.5 times as long. It needs the checkout in PYTHONPATH, as it uses an
archive of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import ours
from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ImageRequest, Resources
from mesocosm.flags import Flags
from report import median, show
from tests.docker_archive import docker_archive
from turns import COLUMNS, Measure, rows, take_turns
from workplace import Workplace, workplace

WITHOUT = "root file system, no image"
MOST = 1.5
_LAYERS = (1, 8)
_numbers = itertools.count()


async def measure(place: Workplace, rounds: int, limit: float) -> dict[str, list[float]]:
    """The seconds of each kind of container in each round."""
    archives = {layers: _archive(place, layers) for layers in _LAYERS}
    isolation = f"{ours.ISOLATION},docker/runtime"
    store = place.work.parent / "store"
    changed = {"isolation": isolation, "image_providers": ("docker",), "docker_store_dir": store}

    def flags(**given: object) -> Flags:
        return dataclasses.replace(Flags(**given), **changed)  # type: ignore[arg-type]

    with mock.patch("ours.Flags", flags):
        async with ours.containerizer(place) as containerizer:
            contenders: dict[str, Measure] = {WITHOUT: lambda: ours.launch_to_exit(containerizer, place)}
            for layers, archive in archives.items():
                request = ImageRequest(f"docker-archive:{archive}")
                contenders[f"image of {layers} layers"] = lambda request=request: _launch(containerizer, request)
            return await take_turns(contenders, rounds, limit)


async def _launch(containerizer: MesosContainerizer, request: ImageRequest) -> float:
    start = time.perf_counter()
    container_id = ContainerID(f"image-{next(_numbers)}")
    resources = Resources(cpus=1, mem=64 << 20, pids=100)
    config = ContainerConfig(CommandInfo.of(("/bin/true",)), image=request, resources=resources)
    await containerizer.launch(container_id, config)
    termination = await containerizer.wait(container_id)
    elapsed = time.perf_counter() - start
    if termination.exit_status != 0:
        raise RuntimeError(f"{container_id}: {termination}")
    await containerizer.remove(container_id)
    return elapsed


def _archive(place: Workplace, layers: int) -> Path:
    more: list[Path] = []
    for number in range(layers - 1):
        directory = place.work.parent / f"layer-{layers}-{number}"
        directory.mkdir()
        (directory / f"file{number}").write_text("content\n")
        more.append(directory)
    return docker_archive(place.work.parent / f"{layers}.tar", f"box:{layers}", place.rootfs, *more)


def too_slow(times: dict[str, list[float]]) -> Sequence[str]:
    """Those that take more than they may."""
    least = median(times[WITHOUT])
    return [name for name, values in times.items() if median(values) > MOST * least]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30, help="when to stop before the last round")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place:
        times = asyncio.run(measure(place, arguments.rounds, arguments.seconds))
    show(["launch to exit of `true`", *COLUMNS, "to none"], rows(times, WITHOUT), markdown=arguments.markdown)
    for name in too_slow(times):
        print(f"{name}: more than {MOST} times as long", file=sys.stderr)
    return 1 if too_slow(times) else 0


if __name__ == "__main__":
    sys.exit(main())
