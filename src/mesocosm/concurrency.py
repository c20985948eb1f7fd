"""Working beside others in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")

_SLICE = 0.002
"""Seconds of work after which others have their turn."""
_HANDS = 5
"""Through which a result goes, one in each round of the event loop, to whoever asked: futures, shields and tasks."""


async def together(steps: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results of all `steps`, which are awaited at the same time, every one to its end.

    One that was cancelled has none. Raises ExceptionGroup of what failed.
    """
    results = await asyncio.gather(*steps, return_exceptions=True)
    if errors := [result for result in results if isinstance(result, Exception)]:
        raise ExceptionGroup("done together", errors)
    return [result for result in results if not isinstance(result, BaseException)]


class Turns:
    """Long work in short pieces: between any two of them, `pause` lets others go on if it is time."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def pause(self) -> None:
        """Returns at once, or after others had their turn."""
        if time.perf_counter() - self._since >= _SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


async def give_way() -> None:
    """Lets others go on first, with what is ready and what follows from it, from task to task."""
    for _ in range(_HANDS):
        await asyncio.sleep(0)


def take_back_cancellation() -> None:
    """Has the current task, which was cancelled and goes on with something else, be one that was not.

    Before Python 3.11.3 a timeout in one that was would cancel it instead of raising TimeoutError.
    """
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def each(function: Callable[[Value], Result], values: Iterable[Value]) -> list[Result]:
    """What `function` makes of each of many values, with turns for others in between."""
    turns, results = Turns(), []
    for value in values:
        await turns.pause()
        results.append(function(value))
    return results


class Work:
    """Work that is done to its end, also if whoever asked for it is gone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`, which goes on if the caller is cancelled. Raises what that raises."""
        return await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begins `work`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self) -> None:
        """Returns when all of it is done, also what begins meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Stops all of it."""
        for task in self._tasks:
            task.cancel()
        await self.wait()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Read, as whoever asked for it may be gone.
