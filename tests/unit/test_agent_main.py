"""The end of the agent while it still recovers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from mesocosm.agent.main import _Ending, _work


class Recovering:
    """An agent that recovers until `done` is set."""

    def __init__(self) -> None:
        self.flags = SimpleNamespace(recover="reconnect")
        self.done = asyncio.Event()
        self.steps: list[str] = []

    async def recover(self) -> None:
        await self.done.wait()
        self.steps.append("recovered")

    async def destroy_all(self) -> None:
        self.steps.append("destroyed")


async def test_containers_that_shall_end_are_recovered_before() -> None:
    agent, ending = Recovering(), asyncio.get_running_loop().create_future()
    work = asyncio.create_task(_work(agent, ending))  # type: ignore[arg-type]
    ending.set_result(_Ending.DESTROY)
    await asyncio.sleep(0)
    agent.done.set()
    await work
    assert agent.steps == ["recovered", "destroyed"]


async def test_others_are_left_as_they_are() -> None:
    agent, ending = Recovering(), asyncio.get_running_loop().create_future()
    work = asyncio.create_task(_work(agent, ending))  # type: ignore[arg-type]
    ending.set_result(_Ending.LEAVE)
    await work
    assert agent.steps == []
