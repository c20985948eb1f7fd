"""How long something takes that happens again and again, as the timers of libprocess tell it."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping

_MOST_VALUES = 1000
PERCENTILES: Mapping[str, float] = {
    "min": 0.0,
    "p50": 0.5,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
    "p9999": 0.9999,
    "max": 1.0,
}


class Timer:
    """The last thousand times, of the last `window` seconds."""

    def __init__(self, window: float = 3600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._times: deque[tuple[float, float]] = deque(maxlen=_MOST_VALUES)
        self.last = math.nan
        """Milliseconds that it took most recently; NaN before the first time."""

    def record(self, seconds: float) -> None:
        """Adds a time."""
        self.last = seconds * 1000
        self._times.append((self._clock(), self.last))

    def statistics(self) -> dict[str, float]:
        """`count`, and milliseconds by the names of PERCENTILES, interpolated; nothing of fewer than two."""
        oldest = self._clock() - self._window
        recent = itertools.dropwhile(lambda entry: entry[0] < oldest, self._times)
        values = sorted(milliseconds for _, milliseconds in recent)
        if len(values) < 2:
            return {}
        return {"count": len(values)} | {name: _percentile(values, part) for name, part in PERCENTILES.items()}


def _percentile(values: list[float], part: float) -> float:
    index, fraction = divmod(part * (len(values) - 1), 1)
    lower, upper = values[int(index)], values[min(int(index) + 1, len(values) - 1)]
    return lower + (upper - lower) * fraction
