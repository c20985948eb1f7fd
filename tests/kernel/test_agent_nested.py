"""Nested containers through the agent's API, by the calls of today and by their older names."""

from __future__ import annotations

import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.agent_process import AgentProcess, Answer, identity

pytestmark = pytest.mark.kernel

PARENT, CHILD = identity("parent"), identity("child", "parent")
GRANDCHILD = {"value": "grandchild", "parent": CHILD}
SLEEP = {"value": "sleep 1000"}


class Calls:
    """The four calls of one name, and waits that are under way."""

    def __init__(self, agent: AgentProcess, kind: str, threads: ThreadPoolExecutor) -> None:
        self.agent = agent
        self.kind = kind
        self._threads = threads

    def call(self, verb: str, container_id: dict[str, Any], **fields: Any) -> Answer:
        return self.agent.call(f"{verb}_{self.kind}", container_id=container_id, **fields)

    def launch(self, container_id: dict[str, Any], **fields: Any) -> int:
        return self.call("LAUNCH", container_id, **({"command": SLEEP} | fields)).status

    def wait(self, container_id: dict[str, Any]) -> Future[Answer]:
        return self._threads.submit(self.call, "WAIT", container_id)

    def ended(self, waiting: Future[Answer]) -> Any:
        """The exit status in the answer."""
        return waiting.result().json[f"wait_{self.kind.lower()}"]["exit_status"]


@pytest.fixture(params=["CONTAINER", "NESTED_CONTAINER"])
def calls(agent: AgentProcess, request: pytest.FixtureRequest) -> Any:
    agent.start()
    assert agent.launch("parent", "sleep 1000").status == 200
    with ThreadPoolExecutor() as threads:
        yield Calls(agent, request.param, threads)


def test_launched_waited_for_and_killed(calls: Calls) -> None:
    assert calls.launch(CHILD) == 200
    waiting = calls.wait(CHILD)
    assert not waiting.done()
    assert calls.call("KILL", CHILD).status == 200
    assert calls.ended(waiting) == signal.SIGKILL


def test_it_is_its_parents_user_unless_it_says_otherwise(calls: Calls) -> None:
    assert calls.launch(CHILD, command=SLEEP | {"user": "nobody"}) == 200
    assert calls.launch(GRANDCHILD, command={"value": "test $(id -un) = nobody"}) == 200
    assert calls.ended(calls.wait(GRANDCHILD)) == 0


def test_a_recovered_one_can_be_waited_for_and_killed(calls: Calls) -> None:
    assert calls.launch(CHILD) == 200
    calls.agent.stop(signal.SIGKILL)
    calls.agent.start()
    waiting = calls.wait(CHILD)
    assert not waiting.done()
    assert calls.call("KILL", CHILD).status == 200
    assert calls.ended(waiting) == signal.SIGKILL


def test_one_that_there_is_not(calls: Calls) -> None:
    """Of that only the older of the calls that remove takes it for done."""
    removed = {"CONTAINER": 404, "NESTED_CONTAINER": 200}[calls.kind]
    assert [calls.call(verb, CHILD).status for verb in ("WAIT", "KILL", "REMOVE")] == [404, 404, removed]


def test_one_whose_files_cannot_be_fetched(calls: Calls) -> None:
    answer = calls.call("LAUNCH", CHILD, command={**SLEEP, "uris": [{"value": "/this/is/not/there"}]})
    assert (answer.status, "cannot be fetched" in answer.text) == (400, True)
    assert calls.call("WAIT", CHILD).status == 404


def test_one_that_nothing_here_supports(calls: Calls) -> None:
    assert calls.launch(CHILD, container={"type": "DOCKER", "docker": {"image": "busybox"}}) == 400
    assert calls.call("WAIT", CHILD).status == 404


def test_two_levels(calls: Calls) -> None:
    assert [calls.launch(CHILD), calls.launch(GRANDCHILD)] == [200, 200]
    child, grandchild = calls.wait(CHILD), calls.wait(GRANDCHILD)
    assert calls.call("KILL", GRANDCHILD).status == 200
    assert calls.ended(grandchild) == signal.SIGKILL
    assert not child.done()
    assert calls.call("KILL", CHILD).status == 200
    assert calls.ended(child) == signal.SIGKILL


def test_launched_twice_it_is_launched_once(calls: Calls) -> None:
    assert [calls.launch(CHILD), calls.launch(CHILD)] == [200, 202]
    assert calls.call("KILL", CHILD).status == 200
    assert calls.ended(calls.wait(CHILD)) == signal.SIGKILL
    assert calls.launch(CHILD) == 202


def test_both_are_listed(calls: Calls) -> None:
    assert calls.launch(CHILD) == 200
    assert calls.agent.containers().keys() == {"parent", "child"}
