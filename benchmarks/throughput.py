"""How many containers of `true` come and go in a second, and how much slower each is among many idle ones.

The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import ours
from mesocosm import MesosContainerizer
from report import median, milliseconds, show
from workplace import Workplace, workplace

LEAST_CYCLES = 150.0
GREATEST_RATIO = 1.5


async def cycles_per_second(
    containerizer: MesosContainerizer, place: Workplace, concurrency: int, duration: float
) -> float:
    """Launches, waits for and removes containers, `concurrency` at a time, for `duration` seconds."""
    start = time.perf_counter()
    count = 0

    async def work() -> None:
        nonlocal count
        while time.perf_counter() - start < duration:
            await ours.launch_to_exit(containerizer, place)
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return count / (time.perf_counter() - start)


async def latency(containerizer: MesosContainerizer, place: Workplace, rounds: int = 200) -> float:
    """The median seconds from launch to exit of one container at a time."""
    return median([await ours.launch_to_exit(containerizer, place) for _ in range(rounds)])


async def latency_among(containerizer: MesosContainerizer, place: Workplace, idle: int) -> tuple[float, float]:
    """The latency without other containers, measured before and after, and among `idle` that sleep."""
    before = await latency(containerizer, place)
    for _ in range(idle):
        await ours.launch(containerizer, place, "/bin/sleep", "100000")
    among = await latency(containerizer, place)
    await ours.destroy_all(containerizer)
    return median([before, await latency(containerizer, place)]), among


async def measure(place: Workplace, concurrency: int, duration: float, idle: int) -> tuple[float, float, float]:
    async with ours.containerizer(place) as containerizer:
        rate = await cycles_per_second(containerizer, place, concurrency, duration)
        return rate, *await latency_among(containerizer, place, idle)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, default=4, help="containers at a time")
    parser.add_argument("--seconds", type=float, default=10, help="how long to count the cycles")
    parser.add_argument("--idle", type=int, default=500, help="containers that sleep meanwhile")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place:
        rate, alone, among = asyncio.run(measure(place, arguments.concurrency, arguments.seconds, arguments.idle))
    rows = [
        [f"launch, wait and remove, {arguments.concurrency} at a time", f"{rate:.0f} /s", f"≥ {LEAST_CYCLES:.0f} /s"],
        ["launch to exit, no other container", milliseconds(alone), ""],
        [f"launch to exit, {arguments.idle} idle containers", milliseconds(among), ""],
        ["ratio of the two", f"{among / alone:.2f}", f"≤ {GREATEST_RATIO}"],
    ]
    show(["throughput", "measured", "target"], rows, markdown=arguments.markdown)
    return 0 if rate >= LEAST_CYCLES and among / alone <= GREATEST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
