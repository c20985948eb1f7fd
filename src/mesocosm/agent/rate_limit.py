"""How often `/metrics/snapshot` is answered: who comes too soon waits, as in libprocess."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from mesocosm.errors import FlagError
from mesocosm.units import parse_duration

VARIABLE = "LIBPROCESS_METRICS_SNAPSHOT_ENDPOINT_RATE_LIMIT"
_DEFAULT = "2/1secs"


class RateLimiter:
    """Lets one through after the other, in the order in which they came, `interval` seconds apart."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._turn = asyncio.Lock()
        self._next = -math.inf

    async def acquire(self) -> None:
        """Returns when it is the caller's turn. Who is cancelled while he waits takes no turn from the others."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            await asyncio.sleep(self._next - clock())
            self._next = clock() + self._interval


def snapshot_limit(environment: Mapping[str, str]) -> RateLimiter | None:
    """What the variable says, `2/1secs` by default; None, for no limit, if it is empty. Raises FlagError."""
    text = environment.get(VARIABLE, _DEFAULT)
    if not text:
        return None
    requests, _, interval = text.partition("/")
    try:
        seconds = parse_duration(interval) / int(requests)
    except (FlagError, ValueError, ZeroDivisionError):
        seconds = 0
    if seconds <= 0:
        hint = f"write requests and an interval, such as {_DEFAULT}, or nothing for no limit"
        raise FlagError(f"{VARIABLE}: {text!r} is no rate", hint)
    return RateLimiter(seconds)
