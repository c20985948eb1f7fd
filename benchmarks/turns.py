"""Contenders side by side: everyone has a turn in every round, in random order, so that noise hits all alike."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from report import median, milliseconds, percentile

PAUSE = 0.02
"""Seconds between two measurements, in which whoever has something to do afterwards does it, on his own time."""
COLUMNS = ("median", "least", "95 %")

Measure = Callable[[], Awaitable[float]]


async def take_turns(contenders: Mapping[str, Measure], rounds: int, limit: float) -> dict[str, list[float]]:
    """The seconds of each contender in each round, of which no more begin after `limit` seconds."""
    for measure in contenders.values():
        await measure()  # Not counted: the first one of each reads its files from disk.
    times: dict[str, list[float]] = {name: [] for name in contenders}
    deadline = time.monotonic() + limit
    for _ in range(rounds):
        if time.monotonic() > deadline:
            break
        for name in random.sample(list(contenders), len(contenders)):  # Nobody always comes after the same one.
            times[name].append(await contenders[name]())
            await asyncio.sleep(PAUSE)
    return times


async def immediate(value: float) -> float:
    """A measurement that is made without waiting for others."""
    return value


def rows(times: Mapping[str, Sequence[float]], reference: str) -> list[list[str]]:
    """One line for each contender, the fastest first: `COLUMNS`, and how much longer than the `reference` it takes."""
    return [
        [
            name,
            milliseconds(median(values)),
            milliseconds(min(values)),
            milliseconds(percentile(values, 0.95)),
            f"{median(values) / median(times[reference]):.2f}",
        ]
        for name, values in sorted(times.items(), key=lambda item: median(item[1]))
    ]
