"""Which containers an overview tells of, where there are many that have ended."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from mesocosm.agent.http import overview
from mesocosm.container import ContainerID, Termination

IDS = ("web", "web.side", "web-2", "web-2.old", "other")


async def told(query: dict[str, str]) -> list[str]:
    """The ids of those that have ended."""
    ended = {ContainerID.parse(text): Termination(status=0) for text in IDS}

    async def observe(*, described: bool, measured: bool) -> list[Any]:
        return []

    async def wait(container_id: ContainerID) -> Termination:
        return ended[container_id]

    agent: Any = SimpleNamespace(
        recovered=True,
        started=0.0,
        containerizer=SimpleNamespace(pending=dict, terminated=lambda: ended, isolation=(), provisioner=None),
        tasks=SimpleNamespace(containers=SimpleNamespace(is_executor=lambda _: False)),
        observe=observe,
        wait=wait,
        config=lambda _: None,
        times=lambda container_id: SimpleNamespace(launched=0.0, ended=float(IDS.index(str(container_id)))),
    )
    access: Any = SimpleNamespace(require=lambda *_: None, shows=lambda *_: True)
    address: Any = SimpleNamespace(hostname="host")
    request: Any = SimpleNamespace(query={"statistics": "false"} | query, principal=None)
    answer = json.loads((await overview.Overview(agent, access, address).handle(request)).body)
    return [entry["id"] for entry in answer["containers"]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", ["web-2.old", "web-2", "web.side", "web"]),
        ("w.s", ["web.side"]),
        ("o", ["other"]),
        ("w..s", []),
        ("nope", []),
        ("", []),
    ],
)
def test_names_are_found_among_all(name: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST_ENDED", 1)
    assert asyncio.run(told({})) == ["other"]
    assert asyncio.run(told({"id": name})) == expected
