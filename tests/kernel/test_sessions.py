"""Sessions: debug containers that somebody uses by a connection to the agent, and that end with it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.agent_process import AgentProcess, identity
from tests.command_line import TIMEOUT
from tests.talking import AS_JSON, JSON, PROTOBUF, Format, Listening, listening, typing
from tests.unit import recorded

pytestmark = pytest.mark.kernel

FORMATS = [Format(JSON), Format(PROTOBUF), Format(JSON, stream=None), Format(PROTOBUF, stream=None)]
SESSION = identity("session", "parent")
TERMINAL = {"type": "MESOS", "tty_info": {"window_size": {"rows": 30, "columns": 100}}}


@pytest.fixture
def parent(agent: AgentProcess) -> AgentProcess:
    """An agent with a standalone container, which Mesos refuses sessions of."""
    agent.start()
    assert agent.launch("parent", "sleep 1000").status == 200
    return agent


@contextmanager
def session(agent: AgentProcess, command: str, /, form: Format = AS_JSON, **fields: Any) -> Iterator[Listening]:
    fields = {"container_id": SESSION, "command": {"value": command}} | fields
    with listening(agent, "LAUNCH_NESTED_CONTAINER_SESSION", form, **fields) as client:
        yield client


def ended(agent: AgentProcess) -> Any:
    """How the session's container ended, when it has."""
    return agent.wait_for("session", nested_in="parent").get("exit_status")


def test_it_is_answered_as_by_mesos(parent: AgentProcess) -> None:
    with session(parent, "echo hello; sleep 0.1; echo err >&2") as client:
        head, _, body = (recorded.DATA / "session.http").read_text().partition("\n\n")
        expected = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line and "Date" not in line)
        assert expected.items() <= client.headers.items()
        assert client._response.read().decode() == body.strip()
    assert ended(parent) == 0


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.message}-{form.stream}")
def test_what_is_typed_comes_back(parent: AgentProcess, form: Format) -> None:
    with session(parent, "cat; echo over >&2; exit 3", form) as client:
        assert client.headers["Content-Type"] == form.stream or form.message
        with typing(parent, SESSION, form) as keyboard:
            keyboard.say(b"one\n")
            client.until(b"one\n")
            keyboard.beat()
            keyboard.say(b"\xff\x00two")
            keyboard.say(b"")
            assert keyboard.finish().status == 200
        assert client.rest() == {"STDOUT": b"one\n\xff\x00two", "STDERR": b"over\n"}
    assert ended(parent) == 3 << 8


def test_a_terminal(parent: AgentProcess) -> None:
    """With a size that changes, of which the command learns, with signals of keys, and with job control."""
    shell = {"value": "/bin/bash", "shell": False, "arguments": ["bash", "--norc", "--noediting", "-i"]}
    with session(parent, "", command=shell, container=TERMINAL) as client, typing(parent, SESSION) as keyboard:
        keyboard.say(b"PS1='> '; trap 'echo resized' WINCH; tty; stty size\n")
        client.until(b"30 100\r\n> ")  # Now the shell itself is in the foreground.
        keyboard.resize(50, 132)
        keyboard.say(b"stty size\n")
        client.until(b"50 132\r\n")
        client.until(b"resized\r\n")
        keyboard.say(b"sh -c 'echo up; exec sleep 1000'\n")
        client.until(b"up\r\n")
        keyboard.say(b"\x03")
        keyboard.say(b"echo status $?\n")
        client.until(b"status 130")
        keyboard.say(b"sh -c 'echo again; read -r line; echo got $line'\n")
        client.until(b"again\r\n")
        keyboard.say(b"\x1a")
        client.until(b"Stopped")
        keyboard.say(b"fg\nit\n")
        client.until(b"got it")
        keyboard.say(b"exit 4\n")
        assert client.rest()["STDERR"] == b""
        assert keyboard.answer().status == 200, "the container has ended"
    assert ended(parent) == 4 << 8


def test_it_ends_with_its_connection(parent: AgentProcess) -> None:
    with session(parent, "trap '' TERM HUP; echo up; while :; do sleep 1; done") as client:
        client.until(b"up\n")
    assert ended(parent) == signal.SIGKILL
    assert "session" not in parent.containers()


def test_it_ends_with_a_connection_that_nothing_was_read_of(parent: AgentProcess) -> None:
    """Which is full, so that the agent cannot tell by a write that it is gone."""
    with session(parent, "yes"):
        pass
    assert ended(parent) == signal.SIGKILL


def test_who_leaves_before_it_has_begun(parent: AgentProcess) -> None:
    """Its files may take for ever to be fetched."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as threads:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}/never"
        client = socket.create_connection((parent.host, parent.port), TIMEOUT)
        asked = {"container_id": SESSION, "command": {"value": "true", "uris": [{"value": uri}]}}
        kind = "LAUNCH_NESTED_CONTAINER_SESSION"
        body = json.dumps({"type": kind, kind.lower(): asked}).encode()
        head = f"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        fetching, _ = threads.submit(silent.accept).result(TIMEOUT)
        assert fetching.recv(1 << 16)
        client.close()
        fetching.settimeout(TIMEOUT)
        assert fetching.recv(1) == b"", "the fetcher is ended"
        fetching.close()
    assert parent.call("WAIT_CONTAINER", container_id=SESSION).status in (200, 404)
    assert sorted(parent.containers()) == ["parent"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_agent(parent: AgentProcess, number: signal.Signals) -> None:
    with session(parent, "echo up; sleep 1000", container=TERMINAL) as client:
        client.until(b"up")
        parent.stop(number)
        parent.start()
        assert sorted(parent.containers()) == ["parent"]
        assert parent.call("WAIT_CONTAINER", container_id=SESSION).status in (200, 404)


def test_the_command_waits_for_who_does_not_read(parent: AgentProcess) -> None:
    with session(
        parent,
        "head -c 20000000 /dev/zero; echo over >&2",
    ) as client:
        client.until(b"\0")
        log = parent.sandbox("parent") / "containers/session/stdout"
        assert log.stat().st_size < 20_000_000, "it would all be there if the agent kept what nobody reads"
        seen = client.rest()
    assert (len(seen["STDOUT"]), seen["STDERR"]) == (20_000_000, b"over\n")
    assert log.stat().st_size == 20_000_000, "it is logged, too"


def test_heartbeats(agent: AgentProcess) -> None:
    agent.start("--http_heartbeat_interval=50ms")
    assert agent.launch("parent", "sleep 1000").status == 200
    with session(agent, "sleep 1000") as client:
        beat = {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 50_000_000}}}
        assert [client.record(), client.record()] == [{"type": "CONTROL", "control": beat}] * 2


def test_one_that_there_is_already(parent: AgentProcess) -> None:
    with session(parent, "echo up; sleep 1000") as client:
        client.until(b"up")
        with session(parent, "true") as second:
            assert (second.status, second.text) == (202, "")
        assert "session" in parent.containers()


def test_what_cannot_be_launched(parent: AgentProcess) -> None:
    with session(parent, "", command={"value": "/nonesuch", "shell": False}) as client:
        assert (client.status, client.text) == (
            400,
            "parent.session: the command '/nonesuch' cannot be executed: not found",
        )
    assert parent.call("REMOVE_NESTED_CONTAINER", container_id=SESSION).status == 200, "as in Mesos, for its checks"
    nobodys = identity("session", "nobody")
    assert parent.call("REMOVE_NESTED_CONTAINER", container_id=nobodys).status == 404
    with session(parent, "true", container_id=identity("session", "nobody")) as client:
        assert (client.status, client.text) == (400, "there is no container nobody that has not ended")
    with session(parent, "true", container={"type": "DOCKER", "docker": {"image": "busybox"}}) as client:
        assert client.status == 400


# Who types.


def test_one_types_at_a_time(parent: AgentProcess) -> None:
    with session(parent, "cat") as client:
        with typing(parent, SESSION) as first:
            first.say(b"first\n")
            client.until(b"first\n")
            with typing(parent, SESSION) as second:
                answer = second.answer()
                assert (answer.status, answer.text) == (409, "Multiple input connections are not allowed")
        with typing(parent, SESSION) as third:
            third.say(b"third\n")
            client.until(b"third\n")
            assert third.finish().status == 200


def test_who_types_into_what_ends_is_told(parent: AgentProcess) -> None:
    with session(parent, "read -r line; exit 5"), typing(parent, SESSION) as keyboard:
        keyboard.say(b"end\n")
        assert keyboard.answer().status == 200
    assert ended(parent) == 5 << 8


def test_who_types_what_nobody_reads_is_told(parent: AgentProcess) -> None:
    with session(parent, "exec <&-; echo up; sleep 1000") as client, typing(parent, SESSION) as keyboard:
        client.until(b"up")
        keyboard.say(b"nobody reads it\n")
        assert keyboard.answer().status == 200


def test_the_command_reads_as_much_as_it_likes(parent: AgentProcess) -> None:
    """More than a pipe holds: the client waits, and the agent keeps none of it."""
    with session(parent, "sleep 0.2; sha256sum") as client, typing(parent, SESSION) as keyboard:
        for _ in range(64):
            keyboard.say(b"x" * 65536)
        keyboard.say(b"")
        assert keyboard.finish().status == 200
        client.rest()
        assert client.seen["STDOUT"].startswith(b"baa7a6d36ffa957552df230235c2d51d735f28d49c58a5f3438a3a973a25a37d"), (
            client.seen
        )


CONTROL = {"type": "PROCESS_IO", "process_io": {"type": "CONTROL"}}
DATA = {"type": "PROCESS_IO", "process_io": {"type": "DATA"}}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            {"type": "CONTAINER_ID", "container_id": SESSION},
            "Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: 'CONTAINER_ID'",
        ),
        ({"type": "PROCESS_IO"}, "Expecting 'attach_container_input.process_io' to be present"),
        ({"type": "PROCESS_IO", "process_io": {}}, "Expecting 'process_io.type' to be present"),
        ({"type": "PROCESS_IO", "process_io": {"type": "UNKNOWN"}}, "'process_io.type' is unknown"),
        (CONTROL, "Expecting 'process_io.control' to be present"),
        (DATA, "Expecting 'process_io.data' to be present"),
    ],
)
def test_what_cannot_be_typed(parent: AgentProcess, asked: dict[str, Any], reason: str) -> None:
    with session(parent, "cat"), typing(parent, SESSION) as keyboard:
        keyboard.send(asked)
        answer = keyboard.answer()
        assert (answer.status, answer.text) == (400, reason)


def test_what_has_no_terminal_has_no_size(parent: AgentProcess) -> None:
    with session(parent, "cat"), typing(parent, SESSION) as keyboard:
        keyboard.resize(10, 10)
        answer = keyboard.answer()
        assert (answer.status, answer.text.partition(":")[0]) == (400, "Unable to set the window size")


def test_what_takes_no_input(parent: AgentProcess) -> None:
    for container_id, status, text in [
        (identity("parent"), 500, "parent takes no input; that has to be asked for at its launch"),
        (identity("nobody"), 404, "Container nobody cannot be found"),
    ]:
        with typing(parent, container_id) as keyboard:
            answer = keyboard.answer()
            assert (answer.status, answer.text[: len(text)]) == (status, text)
