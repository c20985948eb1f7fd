"""Many clients at once, and clients that go away: each is served as if it was alone, and nothing is left of it."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.agent_held import Held, Holdings
from tests.agent_process import AgentProcess, Answer, identity
from tests.command_line import TIMEOUT
from tests.connections import connected, silent_server

pytestmark = pytest.mark.kernel

CLIENTS = 50


@pytest.fixture
def holdings(agent: AgentProcess, run_directory: Path) -> Holdings:
    """Of an agent that has done everything once."""
    holdings = Holdings(agent, run_directory)
    agent.start(env=holdings.env)
    assert agent.launch("warm-up", "true").status == 200
    agent.wait_for("warm-up")
    assert agent.call("REMOVE_CONTAINER", container_id=identity("warm-up")).status == 200
    return holdings


def at_once(request: Callable[[int], Answer]) -> list[Answer]:
    """What CLIENTS clients are answered that do the same at the same time."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(request, range(CLIENTS)))


def nothing_is_left(agent: AgentProcess, holdings: Holdings, before: Held) -> None:
    assert agent.containers() == {}
    assert list((agent.flags.work_dir / "containers").iterdir()) == []
    assert list((agent.flags.runtime_dir / "containers").iterdir()) == []
    assert holdings.settled(before) == []


def test_each_client_has_a_container(agent: AgentProcess, holdings: Holdings) -> None:
    before = holdings.at_rest()

    def live(number: int) -> Answer:
        name = f"c{number}"
        assert agent.launch(name, f"echo {number}; exit {number}").status == 200
        assert agent.wait_for(name) == {"exit_status": number << 8}
        assert agent.get(f"/files/read?path=/containers/{name}/stdout&offset=0").json["data"] == f"{number}\n"
        return agent.call("REMOVE_CONTAINER", container_id=identity(name))

    assert {answer.status for answer in at_once(live)} == {200}
    nothing_is_left(agent, holdings, before)


def test_all_clients_have_the_same_container(agent: AgentProcess, holdings: Holdings) -> None:
    before = holdings.at_rest()
    launches = at_once(lambda _: agent.launch("x", "mkdir -p a/b/c; touch a/b/c/d; sleep 1000"))
    assert Counter(answer.status for answer in launches) == {200: 1, 202: CLIENTS - 1}
    kills = at_once(lambda _: agent.call("KILL_CONTAINER", container_id=identity("x")))
    assert {answer.status for answer in kills} <= {200, 404, 409}
    assert 200 in {answer.status for answer in kills}
    waits = at_once(lambda _: agent.call("WAIT_CONTAINER", container_id=identity("x")))
    assert {answer.text for answer in waits} == {'{"type":"WAIT_CONTAINER","wait_container":{"exit_status":9}}'}
    removals = at_once(lambda _: agent.call("REMOVE_CONTAINER", container_id=identity("x")))
    assert {answer.status for answer in removals} <= {200, 404, 409}
    assert 200 in {answer.status for answer in removals}
    nothing_is_left(agent, holdings, before)


def test_all_clients_remove_a_large_sandbox(agent: AgentProcess, holdings: Holdings) -> None:
    before = holdings.at_rest()
    assert (
        agent.launch("x", "for i in 1 2 3 4 5 6 7 8 9; do mkdir $i; touch $i/a $i/b $i/c $i/d $i/e; done").status == 200
    )
    agent.wait_for("x")
    removals = at_once(lambda _: agent.call("REMOVE_CONTAINER", container_id=identity("x")))
    assert {answer.status for answer in removals} <= {200, 404, 409}
    nothing_is_left(agent, holdings, before)


def test_a_launch_goes_on_without_its_client(agent: AgentProcess, holdings: Holdings) -> None:
    before = holdings.at_rest()
    with silent_server() as server:
        with connected(agent) as client:
            launch(client, "x", server.url)
            fetching = server.accept()
        with fetching:  # The client is gone.
            assert agent.launch("x", "true").status == 202
            fetching.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
            assert agent.wait_for("x") == {"exit_status": 3 << 8}
    assert (agent.sandbox("x") / "x").read_text() == "hello\n"
    assert agent.call("REMOVE_CONTAINER", container_id=identity("x")).status == 200
    nothing_is_left(agent, holdings, before)


def test_a_launch_fails_without_its_client(agent: AgentProcess, holdings: Holdings) -> None:
    before = holdings.at_rest()
    with silent_server() as server, ThreadPoolExecutor() as threads:
        with connected(agent) as client:
            launch(client, "x", server.url)
            fetching = server.accept()
        with fetching:
            wait = threads.submit(agent.call, "WAIT_CONTAINER", container_id=identity("x"))
            fetching.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert wait.result().status in (200, 404)
    nothing_is_left(agent, holdings, before)


def launch(client: HTTPConnection, name: str, url: str) -> None:
    command = {"value": "exit 3", "uris": [{"value": url}]}
    message = {"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": identity(name), "command": command}}
    client.request("POST", "/api/v1", json.dumps(message), {"Content-Type": "application/json"})


def test_who_waits_and_goes_away_is_not_waited_for(agent: AgentProcess, holdings: Holdings) -> None:
    assert agent.launch("x", "sleep 1000").status == 200
    before = holdings.at_rest()
    body = json.dumps({"type": "WAIT_CONTAINER", "wait_container": {"container_id": identity("x")}})
    head = f"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.ExitStack() as clients:
        for number in range(CLIENTS):
            client = clients.enter_context(socket.create_connection((agent.host, agent.port), TIMEOUT))
            # Some go away in the middle of what they say.
            client.sendall((head + body).encode()[: None if number % 2 else len(head) + number])
        holdings.await_more(before, 3 * CLIENTS)  # The connection, its task, and that of the request.
    assert holdings.settled(before) == []
    assert agent.containers().keys() == {"x"}
