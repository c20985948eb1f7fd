"""The stream of events that an executor reads, or does not."""

from __future__ import annotations

import contextlib

import pytest

from mesocosm.agent.tasks import links
from mesocosm.agent.tasks.links import HttpLink


async def test_a_stream_ends_with_what_was_said() -> None:
    link = HttpLink(as_json=True)
    link.kill("framework", "task", None)
    link.close()
    link.shut_down()
    assert [b"KILL" in record for record in [record async for record in link.stream()]] == [True]


async def test_the_stream_of_one_that_does_not_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is kept in memory, and it may have more and more said to it."""
    monkeypatch.setattr(links, "_MOST_WAITING", 1000)
    link = HttpLink(as_json=True)
    async with contextlib.aclosing(link.stream()) as stream:
        for number in range(100):
            link.kill("framework", f"task-{number}", None)
        assert [record async for record in stream] == []


async def test_nothing_waits_for_one_that_has_gone() -> None:
    link = HttpLink(as_json=True)
    link.kill("framework", "task", None)
    async with contextlib.aclosing(link.stream()) as stream:
        assert b"KILL" in await anext(stream)
    link.kill("framework", "another", None)
    assert [record async for record in link.stream()] == []
