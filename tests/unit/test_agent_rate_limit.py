"""How often there is a snapshot of the metrics."""

from __future__ import annotations

import asyncio

import pytest

from mesocosm.agent.rate_limit import VARIABLE, RateLimiter, snapshot_limit
from mesocosm.errors import FlagError


async def test_one_after_the_other_in_the_order_they_came() -> None:
    limiter, clock = RateLimiter(0.05), asyncio.get_running_loop().time
    let_through: list[tuple[int, float]] = []

    async def caller(number: int) -> None:
        await limiter.acquire()
        let_through.append((number, clock()))

    began = clock()
    await asyncio.gather(*map(caller, range(4)))
    assert [number for number, _ in let_through] == [0, 1, 2, 3]
    assert let_through[-1][1] - began >= 0.15


async def test_who_gives_up_takes_no_turn() -> None:
    limiter = RateLimiter(1000)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)
    limiter._next = 0
    async with asyncio.timeout(5):
        await limiter.acquire()


@pytest.mark.parametrize(("text", "interval"), [(None, 0.5), ("2/1secs", 0.5), ("100/1mins", 0.6), ("1/10ms", 0.01)])
def test_the_variable(text: str | None, interval: float) -> None:
    limiter = snapshot_limit({} if text is None else {VARIABLE: text})
    assert limiter is not None
    assert limiter._interval == pytest.approx(interval)


def test_an_empty_variable_is_no_limit() -> None:
    assert snapshot_limit({VARIABLE: ""}) is None


@pytest.mark.parametrize("text", ["2", "0/1secs", "-1/1secs", "x/1secs", "2/", "2/x", "2/0secs", "2/1secs/3", "/", " "])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(FlagError, match=f"^{VARIABLE}: .* is no rate"):
        snapshot_limit({VARIABLE: text})
