"""Long work leaves the event loop to others now and then, also that of the agent for many containers."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mesocosm.agent.agent import Agent
from mesocosm.agent.authorization import Authorizer
from mesocosm.agent.flags import load
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.endpoints import add_endpoints
from mesocosm.agent.http.reply import JSON, PROTOBUF, Reply
from mesocosm.agent.http.routes import Request, Routes
from mesocosm.agent.http.state import Address
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import Metrics
from mesocosm.concurrency import Turns, Work, each, give_way, take_back_cancellation, together
from mesocosm.container import ContainerID, ContainerStatus
from mesocosm.statistics import ResourceStatistics

MANY = 500
LONGEST = 0.05
"""Seconds that anybody may have to wait."""


def burn(seconds: float) -> None:
    """Works that long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def longest_turn(work: Awaitable[object]) -> float:
    """The most seconds of this thread that pass between two turns of the loop: others on the machine do not count."""
    task = asyncio.ensure_future(work)
    longest, before = 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    task.result()
    return longest


@pytest.fixture(autouse=True)
def no_garbage() -> Iterator[None]:
    """The collector looks through all that a test run has, which is not ours."""
    gc.disable()
    yield
    gc.enable()


async def test_turns() -> None:
    async def work() -> None:
        turns = Turns()
        for _ in range(100):
            await turns.pause()
            burn(0.001)

    assert await longest_turn(work()) < 0.02


async def test_each() -> None:
    assert await each(str, range(1000)) == [str(number) for number in range(1000)]
    assert await longest_turn(each(lambda _: burn(0.001), range(100))) < 0.02


async def test_together() -> None:
    done = []

    async def step(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)
        if number % 2:
            raise ValueError(number)

    with pytest.raises(ExceptionGroup) as caught:
        await together(step(number) for number in range(4))
    assert [error.args for error in caught.value.exceptions] == [(1,), (3,)]
    assert done == [0, 1, 2, 3]
    assert await together([]) == []


class ManyContainers:
    """As much of a containerizer as an answer about its containers needs; to read of one takes 0.3 ms."""

    async def containers(self) -> set[ContainerID]:
        return {ContainerID(f"container-{number}") for number in range(MANY)}

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        return ContainerStatus(container_id, 4711)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        burn(0.0003)
        amounts = (field.name for field in fields(ResourceStatistics) if field.type in ("int | None", "float | None"))
        return ResourceStatistics(**dict.fromkeys(amounts, 12345))


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Routes:
    """The endpoints of an agent with many containers."""
    loaded = load([f"--work_dir={tmp_path}/work", f"--runtime_dir={tmp_path}/run"], {})
    agent = Agent(loaded)
    monkeypatch.setattr(agent, "containerizer", ManyContainers())
    agent.recovered = True
    routes = Routes()
    logs = Logs("WARNING", quiet=True, log_dir=None)
    add_endpoints(
        routes,
        agent,
        Access(Authorizer(None), agent.user_of),
        Metrics(),
        None,
        logs,
        Address("host", "127.0.0.1", 5051),
    )
    return routes


def request(routes: Routes, method: str, path: str, accept: str = JSON, **call: Any) -> Awaitable[Reply]:
    async def read() -> bytes:
        return json.dumps(call).encode()

    headers = {"Content-Type": JSON, "Accept": accept}
    asked = Request(method, path, {"show_standalone": "true"}, headers, None, None, read, chunks=None)  # type: ignore[arg-type]
    return routes.find(path, method).handler(asked)


@pytest.mark.parametrize("path", ["/monitor/statistics", "/containers"])
async def test_endpoints_about_many_containers(routes: Routes, path: str) -> None:
    reply = await request(routes, "GET", path)
    assert len(json.loads(reply.body)) == MANY
    assert await longest_turn(request(routes, "GET", path)) < LONGEST


@pytest.mark.parametrize("accept", [JSON, PROTOBUF])
async def test_get_containers_of_many(routes: Routes, accept: str) -> None:
    call: dict[str, Any] = {"type": "GET_CONTAINERS", "get_containers": {"show_standalone": True}}
    reply = await request(routes, "POST", "/api/v1", accept, **call)
    assert len(reply.body) > MANY * 100
    assert await longest_turn(request(routes, "POST", "/api/v1", accept, **call)) < LONGEST


async def test_a_client_goes_first() -> None:
    """Its request waits for work that is done to its end, and that for the launch of a container."""
    work, started, order = Work(), asyncio.get_running_loop().create_future(), []

    async def launch() -> None:
        await asyncio.shield(started)

    async def answer() -> None:
        await work.finish(launch())
        order.append("answered")

    async def live() -> None:
        started.set_result(None)
        await give_way()
        order.append("went on")

    request = asyncio.create_task(answer())
    await give_way()
    assert not order
    await asyncio.gather(request, live())
    assert order == ["answered", "went on"]


async def test_a_timeout_in_a_task_that_was_cancelled_and_goes_on() -> None:
    """It is one with every Python, and nothing of the cancellation is left."""
    begun = asyncio.Event()

    async def work() -> int:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            take_back_cancellation()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    assert await task == 0
