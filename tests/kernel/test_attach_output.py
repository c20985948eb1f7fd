"""What containers write is seen as it comes: by clients that are attached to them, and in files that are followed."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api.recordio import Decoder
from mesocosm.client.address import Address
from mesocosm.client.streaming import AgentClient
from tests.agent_process import AgentProcess, identity
from tests.attaching import JSON, PROTOBUF, RECORDIO, attached, followed
from tests.command_line import TIMEOUT

pytestmark = pytest.mark.kernel

WAITS = "mkfifo 1 2 3 4; echo before; cat 1; "
"""Begins a command that goes on when a test says so; and can wait for that three times more."""
LINES = "".join(f"line {number}\n" for number in range(20_000)).encode()
PRINTS = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i + 1)); done"


def go(agent: AgentProcess, number: int, sandbox: str = "x") -> None:
    """Has the command go on that waits for that number, and echoes an empty line."""
    (agent.sandbox(sandbox) / str(number)).write_text("\n")


def ready(agent: AgentProcess, name: str = "x") -> None:
    """Returns when the container waits."""
    with followed(agent, f"/containers/{name}/stdout", offset=0) as stream:
        assert stream.read1() == b"before\n"


def launch(agent: AgentProcess, command: str) -> None:
    """A container `x` that waits, and then does this."""
    assert agent.launch("x", WAITS + command).status == 200
    ready(agent)


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_output_comes_from_then_on_until_the_end(agent: AgentProcess, media_type: str) -> None:
    agent.start()
    launch(agent, "echo out; echo err >&2; cat 2; printf end")
    with attached(agent, "x", media_type=media_type) as client:
        assert client.response.headers["Content-Type"] == RECORDIO
        assert client.response.headers["Message-Content-Type"] == media_type
        go(agent, 1)
        client.until(b"out\n")
        client.until(b"err\n", "STDERR")
        go(agent, 2)
        assert client.rest() == {"STDOUT": b"\nout\n\nend", "STDERR": b"err\n"}
    assert agent.wait_for("x")["exit_status"] == 0


def test_who_attaches_later_sees_what_comes_later(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "echo early; cat 2; echo late")
    with attached(agent, "x") as first:
        go(agent, 1)
        first.until(b"early\n")
        with attached(agent, "x") as second:
            go(agent, 2)
            assert second.rest() == {"STDOUT": b"\nlate\n"}
        assert first.rest() == {"STDOUT": b"\nearly\n\nlate\n"}


def test_a_stream_without_news_has_heartbeats(agent: AgentProcess) -> None:
    agent.start("--http_heartbeat_interval=100ms")
    launch(agent, "true")
    beat = {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 100_000_000}}}
    with attached(agent, "x") as client:
        assert [next(client), next(client)] == [{"type": "CONTROL", "control": beat}] * 2
        go(agent, 1)
        assert client.rest() == {"STDOUT": b"\n"}


def test_whom_nobody_can_attach_to(agent: AgentProcess) -> None:
    agent.start()
    assert agent.launch("x", "true").status == 200
    agent.wait_for("x")
    for name in ("x", "nope"):
        answer = agent.call("ATTACH_CONTAINER_OUTPUT", container_id=identity(name))
        assert (answer.status, answer.text) == (404, f"Container {name} cannot be found (or has ended)")


def test_a_nested_container_has_output_of_its_own(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "true")
    assert agent.launch("y", f"{WAITS}echo inner", nested_in="x").status == 200
    ready(agent, "x/containers/y")
    with attached(agent, "y", "x") as inner:
        go(agent, 1, "x/containers/y")
        assert inner.rest() == {"STDOUT": b"\ninner\n"}


def test_rotated_files_are_followed_to_the_last_line(agent: AgentProcess) -> None:
    agent.start("--container_logger=logrotate", "--logrotate_max_stdout_size=4KB", "--logrotate_stdout_count=1000")
    launch(agent, PRINTS)
    with attached(agent, "x") as client:
        go(agent, 1)
        assert client.rest()["STDOUT"] == b"\n" + LINES
    assert (agent.sandbox("x") / "stdout.20").exists()


def test_what_it_does_to_its_files_hides_nothing_that_comes_later(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, ": > stdout; echo cut >&2; cat 2; echo short; cat 3; rm stdout; echo gone; cat 4; echo end")
    with attached(agent, "x") as client:
        go(agent, 1)
        client.until(b"cut\n", "STDERR")
        for number, text in ((2, b"short\n"), (3, b"gone\n")):
            go(agent, number)
            client.until(text)
        go(agent, 4)
        assert client.rest()["STDOUT"].endswith(b"\nshort\n\ngone\n\nend\n")


@pytest.mark.parametrize("trick", ["ln -s /etc/shadow stdout", "mkfifo stdout", "mkdir stdout"])
def test_nothing_but_a_regular_file_is_followed(agent: AgentProcess, trick: str) -> None:
    agent.start()
    launch(agent, f"rm stdout; {trick}; echo done >&2; cat 2")
    go(agent, 1)
    with followed(agent, "/containers/x/stderr", offset=0) as stream:
        assert stream.read1() == b"done\n"
    answer = agent.call("ATTACH_CONTAINER_OUTPUT", container_id=identity("x"))
    assert (answer.status, answer.text) == (
        400,
        "x has no output that can be followed: the file cannot be shown: not a regular file",
    )
    assert agent.get("/files/follow?path=/containers/x/stdout").status == 400
    go(agent, 2)


def held(agent: AgentProcess) -> tuple[list[str], int]:
    """What the agent has open below sandboxes, and how many inodes it watches."""
    opened, watched = [], 0
    for link in Path(f"/proc/{agent.pid}/fd").iterdir():
        try:
            target = str(link.readlink())
            watched += link.parents[1].joinpath("fdinfo", link.name).read_text().count("inotify wd:")
        except FileNotFoundError:
            continue  # Closed meanwhile.
        if "/work/containers/" in target:
            opened.append(target)
    return opened, watched


def awaited(condition: Callable[[], bool]) -> bool:
    """Whether it comes true. Nobody tells when the agent has noticed that a client is gone."""
    deadline = time.monotonic() + TIMEOUT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_clients_that_vanish_leave_nothing(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "cat 2")
    assert awaited(lambda: held(agent) == ([], 0))
    with attached(agent, "x") as first, attached(agent, "x"):
        assert awaited(lambda: held(agent)[1] == 3)
        assert len(held(agent)[0]) == 3  # The sandbox and its two files, once for both.
        first.response.close()
    assert awaited(lambda: held(agent) == ([], 0))
    go(agent, 1)
    go(agent, 2)


def test_the_agent_is_killed_in_the_middle(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "echo one; cat 2; echo two; cat 3; echo three")
    with attached(agent, "x") as client:
        go(agent, 1)
        client.until(b"one\n")
        agent.stop(signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            client.rest()
    go(agent, 2)
    agent.start()
    with followed(agent, "/containers/x/stdout", offset=0) as stream:
        assert stream.read1() == b"before\n\none\n\ntwo\n"
    with attached(agent, "x") as client:
        go(agent, 3)
        assert client.rest() == {"STDOUT": b"\nthree\n"}


async def test_a_program_attaches(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "echo out; echo err >&2")

    async def see() -> dict[str, bytes]:
        seen = {"STDOUT": b"", "STDERR": b""}
        async with AgentClient(Address.parse(f"http://{agent.host}:{agent.port}")) as client:
            async for stream, piece in client.attach_output(identity("x")):
                seen[stream] += piece
        return seen

    seeing = asyncio.create_task(see())
    assert await asyncio.to_thread(awaited, lambda: held(agent)[1] == 3)
    go(agent, 1)
    assert await asyncio.wait_for(seeing, TIMEOUT) == {"STDOUT": b"\nout\n", "STDERR": b"err\n"}


# Tasks.


@contextmanager
def task(agent: AgentProcess, value: dict[str, Any]) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Runs a task; yields what returns its status when it has come to a state."""
    connection = http.client.HTTPConnection(agent.host, agent.port, timeout=TIMEOUT)
    connection.request("POST", "/tasks", json.dumps({"task": value}), {"Content-Type": JSON})
    response, decoder = connection.getresponse(), Decoder()

    def status(state: str) -> dict[str, Any]:
        while data := response.read1(65536):
            for event in map(json.loads, decoder.feed(data)):
                if event.get("status", {}).get("state") == state:
                    found: dict[str, Any] = event["status"]
                    return found
        raise AssertionError(f"it has not become {state}")

    try:
        yield status
    finally:
        connection.close()


@pytest.mark.parametrize("grouped", [False, True])
def test_the_output_of_tasks(agent: AgentProcess, grouped: bool, run_directory: Path) -> None:
    fifo = run_directory / "fifo"
    os.mkfifo(fifo)
    resources = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]
    command = {"value": f"cat {fifo}; echo out; cat {fifo}"}
    value: dict[str, Any] = {"task_id": {"value": "t"}, "command": command, "resources": resources}
    agent.start("--resources=cpus:1;mem:1024")
    with task(agent, {"tasks": [value]} if grouped else value) as status:
        container_id = status("TASK_RUNNING")["container_status"]["container_id"]
        parent = container_id["parent"]["value"] if grouped else None
        with attached(agent, container_id["value"], parent) as client:
            fifo.write_text("")
            client.until(b"out\n")
            with followed(agent, f"/containers/{parent or container_id['value']}/stdout") as stream:
                assert stream.status == 200
            fifo.write_text("")
            client.rest()
        status("TASK_FINISHED")


# Files.


def test_a_file_is_followed_from_where_one_wants(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "echo more; cat 2")
    path = "/containers/x/stdout"
    with followed(agent, path, offset=3, until="x") as some, followed(agent, path, until="x") as new:
        assert some.headers["X-Content-Type-Options"] == "nosniff"
        assert some.read1() == b"ore\n"
        go(agent, 1)
        go(agent, 2)
        assert (some.read(), new.read()) == (b"\nmore\n\n", b"\nmore\n\n")
    with followed(agent, path, offset=0, until="x") as ended:
        assert ended.read() == b"before\n\nmore\n\n"
    with followed(agent, path, offset=0, until="nope") as unknown:
        assert unknown.read() == b"before\n\nmore\n\n"


def test_what_cannot_be_followed(agent: AgentProcess) -> None:
    agent.start()
    launch(agent, "true")
    answers = {
        query: agent.get(f"/files/follow?{query}")
        for query in (
            *("", "path=/nope", "path=/containers/x/nope", "path=/containers/x", "path=/containers/x/../y/stdout"),
            *("path=/containers/x/stdout&offset=-1", "path=/containers/x/stdout&until=a..b"),
            "path=/containers/x/stdout&offset=9",
            "path=/containers/x/stdout&offset=0&oldest=true",
        )
    }
    assert {query: (answer.status, answer.text) for query, answer in answers.items()} == {
        "": (400, "Expecting 'path=value' in query.\n"),
        "path=/nope": (404, "there is nothing at '/nope'"),
        "path=/containers/x/nope": (404, "the file cannot be shown: No such file or directory"),
        "path=/containers/x": (400, "the file cannot be shown: not a regular file"),
        "path=/containers/x/../y/stdout": (400, "'/containers/x/../y/stdout' leads out of what it begins in"),
        "path=/containers/x/stdout&offset=-1": (400, "Negative offset provided: -1"),
        "path=/containers/x/stdout&offset=9": (416, "offset 9 is beyond the end of the file, which has 7 bytes"),
        "path=/containers/x/stdout&offset=0&oldest=true": (400, "Expecting either 'offset' or 'oldest=true' in query"),
        "path=/containers/x/stdout&until=a..b": (400, answers["path=/containers/x/stdout&until=a..b"].text),
    }
    go(agent, 1)


def test_who_may_see_it(agent: AgentProcess) -> None:
    nobody = [{"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]
    agent.start(f"--acls={json.dumps({'attach_containers_output': nobody, 'access_sandboxes': nobody})}")
    assert agent.launch("x", "mkfifo 1; cat 1").status == 200
    assert agent.call("ATTACH_CONTAINER_OUTPUT", container_id=identity("x")).status == 403
    assert agent.get("/files/follow?path=/containers/x/stdout").status == 403
    go(agent, 1)
