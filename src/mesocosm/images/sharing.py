"""Work that several ask for at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from mesocosm.dataclass import dataclass

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Shared(Generic[Key, Result]):
    """Work that is done once for all who ask for it at the same time, and is stopped when none of them waits."""

    def __init__(self) -> None:
        self._running: dict[Key, _Running[Result]] = {}

    async def run(self, key: Key, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of `make`, or of the same work if that is going on already. Raises what that raises."""
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = _Running(asyncio.ensure_future(make()))
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        finally:
            running.waiting -= 1
            if not running.waiting:
                if self._running.get(key) is running:
                    del self._running[key]
                if not running.task.done():
                    running.task.cancel()
                    await asyncio.wait([running.task])

    async def close(self) -> None:
        """Stops all of it; whoever waits is cancelled."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@dataclass(slots=True)
class _Running(Generic[Result]):
    task: asyncio.Task[Result]
    waiting: int = 0
