"""The examples of Mesos's documentation, sent by curl as they are printed (data/mesos_examples.txt)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess
from tests.command_line import TIMEOUT

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]

_PART = re.compile(r"^\w+ HTTP (Request|Response).*:\n", re.MULTILINE)
_NOT_AS_PRINTED = {
    "SET_LOGGING_LEVEL": 200,  # Printed is 202, but the program answers 200.
    "LIST_FILES": 404,  # Of files that agents in Mesos's own tests have.
    "READ_FILE": 404,
}


@dataclass(frozen=True)
class Example:
    """A request, and what is printed of its answer."""

    path: str
    headers: list[str]
    body: dict[str, Any]
    status: int = 200
    answer: Any = None

    @property
    def kind(self) -> str:
        return str(self.body["type"])

    @property
    def container_id(self) -> Any:
        return self.body.get(self.kind.lower(), {}).get("container_id")


def examples() -> dict[str, Example]:
    """All of them, by the kinds of the calls."""
    found: dict[str, Example] = {}
    _, *parts = _PART.split((Path(__file__).parent / "data" / "mesos_examples.txt").read_text())
    for part, text in zip(parts[::2], parts[1::2], strict=True):
        first, *paragraphs = re.split(r"\n{2,}", text.strip())
        if part == "Request":
            headers, body = paragraphs
            example = Example(first.split()[1], headers.splitlines(), json.loads(body))
            found[example.kind] = example
        else:
            answer = json.loads(paragraphs[-1]) if paragraphs else None
            found[example.kind] = Example(example.path, example.headers, example.body, int(first.split()[1]), answer)
    return found


def send(agent: AgentProcess, example: Example) -> tuple[int, Any]:
    """What curl receives: the status, and the answer if it is JSON."""
    headers = [argument for header in example.headers for argument in ("--header", header)]
    result = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--write-out", "\n%{http_code} %{content_type}"),
            *headers,
            *("--data", json.dumps(example.body, indent=2), f"http://{agent.host}:{agent.port}{example.path}"),
        ],
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    body, _, end = result.stdout.decode().rpartition("\n")
    status, _, content_type = end.partition(" ")
    return int(status), json.loads(body) if content_type == "application/json" else None


def check(agent: AgentProcess, example: Example) -> None:
    status, answer = send(agent, example)
    assert status == _NOT_AS_PRINTED.get(example.kind, example.status), (example, answer)
    if example.answer is not None:
        assert answer == example.answer
    elif answer is not None:
        assert answer["type"] == example.kind


def test_the_agent(agent: AgentProcess) -> None:
    agent.start()
    for example in examples().values():
        if example.container_id is None:
            check(agent, example)


def test_a_standalone_container(agent: AgentProcess) -> None:
    agent.start()
    printed = examples()
    del printed["LAUNCH_CONTAINER"].body["launch_container"]["container"]  # An image, which cannot be had yet.
    check(agent, printed["LAUNCH_CONTAINER"])
    assert agent.containers().keys() == {"my-standalone-container-id"}
    status, _ = send(agent, printed["LAUNCH_CONTAINER"])
    assert status == 202
    check(agent, printed["KILL_CONTAINER"])
    # What is printed is the end of one that was not killed.
    status, answer = send(agent, printed["WAIT_CONTAINER"])
    assert (status, answer["wait_container"]["exit_status"]) == (200, 9)
    for kind in ("KILL_CONTAINER", "WAIT_CONTAINER"):
        agent.call("REMOVE_CONTAINER", container_id=printed[kind].container_id)
        assert send(agent, printed[kind])[0] == 404


def test_nested_containers(agent: AgentProcess) -> None:
    agent.start()
    printed = examples()
    for kind, command in (("LAUNCH", None), ("WAIT", "exit 0"), ("KILL", "sleep 1000"), ("REMOVE", None)):
        example = printed[f"{kind}_NESTED_CONTAINER"]
        launch_ancestors(agent, example.container_id["parent"])
        if command is not None:
            launched = agent.call("LAUNCH_CONTAINER", container_id=example.container_id, command={"value": command})
            assert launched.status == 200, launched.text
        check(agent, example)


def launch_ancestors(agent: AgentProcess, container_id: dict[str, Any]) -> None:
    if "parent" in container_id:
        launch_ancestors(agent, container_id["parent"])
    launched = agent.call("LAUNCH_CONTAINER", container_id=container_id, command={"value": "sleep 1000"})
    assert launched.status in (200, 202), launched.text


def test_every_example_is_sent() -> None:
    nested = {f"{verb}_NESTED_CONTAINER" for verb in ("LAUNCH", "WAIT", "KILL", "REMOVE")}
    standalone = {f"{verb}_CONTAINER" for verb in ("LAUNCH", "WAIT", "KILL")}
    found = examples()
    assert {kind for kind, example in found.items() if example.container_id is not None} == nested | standalone
    assert len(found) == 23
