"""How the agent speaks HTTP: formats, status codes and their texts, paths, sockets. What it is asked matters little."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import recordio
from mesocosm.api.json import from_json
from mesocosm.api.v1.agent import Call, Response
from tests.agent_process import AgentProcess, Answer, identity
from tests.command_line import TIMEOUT
from tests.connections import connected, silent_server

pytestmark = pytest.mark.kernel

JSON, PROTOBUF, RECORDIO = "application/json", "application/x-protobuf", "application/recordio"
HEALTH = b'{"type": "GET_HEALTH"}'
HEALTHY = {"type": "GET_HEALTH", "get_health": {"healthy": True}}
INVALID = "Failed to validate agent::Call: "

ID = {"value": "nope"}
PROVIDER = {"type": "org.example", "name": "nope"}
UNSERVED: dict[str, dict[str, Any]] = {
    "UNKNOWN": {},
    "ADD_RESOURCE_PROVIDER_CONFIG": {"info": PROVIDER},
    "UPDATE_RESOURCE_PROVIDER_CONFIG": {"info": PROVIDER},
    "REMOVE_RESOURCE_PROVIDER_CONFIG": PROVIDER,
    "MARK_RESOURCE_PROVIDER_GONE": {"resource_provider_id": ID},
}
"""Calls that are answered with 501, with parameters that are valid."""
TALKING = {"LAUNCH_NESTED_CONTAINER_SESSION", "ATTACH_CONTAINER_INPUT", "ATTACH_CONTAINER_OUTPUT"}
"""Calls that go on: test_sessions.py, test_attach_output.py."""


def message(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **({kind.lower(): fields} if fields else {})}


def post(agent: AgentProcess, body: bytes, path: str = "/api/v1", **headers: str) -> Answer:
    """A request whose headers are named as Python can: `message_accept`. JSON if nothing else is said."""
    named = {name.replace("_", "-"): value for name, value in {"content_type": JSON, **headers}.items() if value}
    return agent.request("POST", path, body, named)


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.text


def record(value: Any) -> bytes:
    return recordio.encode(json.dumps(value).encode())


def exchange(agent: AgentProcess, data: bytes) -> bytes:
    """All that the agent answers to `data`, when it has closed the connection."""
    with socket.create_connection((agent.host, agent.port), TIMEOUT) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# Formats.


def test_the_formats_of_a_call_are_negotiated(agent: AgentProcess) -> None:
    agent.start()
    unsupported = f"Expecting 'Content-Type' of {JSON} or {PROTOBUF} or {RECORDIO}"
    not_acceptable = f"Expecting 'Accept' to allow {JSON} or {PROTOBUF} or {RECORDIO}"
    not_streamed = "Streaming response is not supported for GET_HEALTH call"
    cases: list[tuple[dict[str, str], int, str | None]] = [
        ({"content_type": ""}, 400, "Expecting 'Content-Type' to be present"),
        ({"content_type": "text/plain"}, 415, unsupported),
        ({"content_type": "application/*"}, 415, unsupported),
        ({"content_type": f"{JSON}; charset=utf-8"}, 200, None),
        ({"content_type": JSON.upper()}, 200, None),
        (
            {"message_content_type": JSON},
            415,
            "Expecting 'Message-Content-Type' to be not set for non-streaming requests",
        ),
        ({"accept": "text/html"}, 406, not_acceptable),
        ({"accept": f"{JSON};q=0, text/*"}, 406, not_acceptable),
        ({"accept": "*/*"}, 200, None),
        ({"accept": "text/html, application/*;q=0.1"}, 200, None),
        ({"accept": f"{PROTOBUF}, {JSON}"}, 200, None),
        ({"accept": RECORDIO}, 406, not_streamed),
        ({"accept": RECORDIO, "message_accept": PROTOBUF}, 406, not_streamed),
        (
            {"accept": RECORDIO, "message_accept": "text/plain"},
            406,
            f"Expecting 'Message-Accept' to allow {JSON} or {PROTOBUF}",
        ),
        ({"message_accept": JSON}, 406, "Expecting 'Message-Accept' to be not set for non-streaming responses"),
    ]
    answers = [(headers, post(agent, HEALTH, **headers)) for headers, _, _ in cases]
    assert [(headers, *said(answer)) for headers, answer in answers] == [
        (headers, status, answer.text if text is None else text)
        for (headers, status, text), (_, answer) in zip(cases, answers, strict=True)
    ]
    assert [answer.json for _, answer in answers if answer.status == 200] == [HEALTHY] * 5


def test_what_is_no_call_is_refused(agent: AgentProcess) -> None:
    agent.start()
    wait = "'wait_container.container_id' is invalid: "
    cases = {
        b"": "Failed to parse body into JSON: ",
        b"{": "Failed to parse body into JSON: ",
        b"\xff": "Failed to parse body into JSON: ",
        b'{"type": NaN}': "Failed to parse body into JSON: ",
        b"[" * 100_000: "Failed to parse body into JSON: ",
        b"null": "Expecting a JSON object",
        b"[]": "Expecting a JSON object",
        b"{}": f"{INVALID}Expecting 'type' to be present",
        b'{"type": null}': f"{INVALID}Expecting 'type' to be present",
        b'{"type": 1}': "Not expecting a JSON number for field 'type'",
        b'{"type": "NOPE"}': "Failed to find enum for 'NOPE' of field 'type'",
        b'{"type": "GET_METRICS"}': f"{INVALID}Expecting 'get_metrics' to be present",
        b'{"type": "WAIT_CONTAINER"}': f"{INVALID}Expecting 'wait_container' to be present",
        b'{"type": "WAIT_CONTAINER", "wait_container": []}': "Not expecting a JSON array for field 'wait_container'",
        b'{"type": "WAIT_CONTAINER", "wait_container": {}}': "Missing required fields: wait_container.container_id",
        b'{"type": "WAIT_CONTAINER", "wait_container": {"container_id": "x"}}': (
            "Not expecting a JSON string for field 'wait_container.container_id'"
        ),
        json.dumps(message("WAIT_CONTAINER", container_id={"value": ""})).encode(): (
            f"{INVALID}{wait}ID must not be empty"
        ),
        json.dumps(message("WAIT_CONTAINER", container_id={"value": ".."})).encode(): (
            f"{INVALID}{wait}'..' is disallowed"
        ),
        json.dumps(message("WAIT_NESTED_CONTAINER", container_id=ID)).encode(): (
            f"{INVALID}Expecting 'wait_nested_container.container_id.parent' to be present"
        ),
        # A name that is one for Mesos, but not here.
        json.dumps(message("KILL_CONTAINER", container_id={"value": "ä"})).encode(): "container id 'ä' is not a name",
    }
    answers = {body: post(agent, body) for body in cases}
    wrong = {
        body: said(answer)
        for body, answer in answers.items()
        if answer.status != 400 or not answer.text.startswith(cases[body]) or "\n" in answer.text
    }
    assert wrong == {}
    for body in (b"\xff", b"\x08", b"{}"):
        answer = post(agent, body, content_type=PROTOBUF)
        assert (answer.status, answer.text[:42]) == (400, "Failed to parse body into a protobuf object"[:42])
    answer = post(agent, b"x" * (17 << 20))
    assert said(answer) == (413, "a request has 16777216 bytes at most")


def test_calls_of_other_versions_are_501(agent: AgentProcess) -> None:
    agent.start()
    answers = {kind: agent.call(kind, **fields) for kind, fields in UNSERVED.items()}
    assert {kind: said(answer) for kind, answer in answers.items()} == {
        kind: (501, f"{kind} is not served by this version") for kind in UNSERVED
    }


def test_streams_are_for_calls_that_have_one(agent: AgentProcess) -> None:
    agent.start()
    attach = message("ATTACH_CONTAINER_INPUT", type="CONTAINER_ID", container_id=ID)
    stream = {"content_type": RECORDIO, "message_content_type": JSON}
    assert said(post(agent, json.dumps(attach).encode())) == (
        415,
        f"Expecting 'Content-Type' to be {RECORDIO} for ATTACH_CONTAINER_INPUT call",
    )
    assert said(post(agent, record({"type": "GET_HEALTH"}), **stream)) == (
        415,
        f"Streaming 'Content-Type' {RECORDIO} is not supported for GET_HEALTH call",
    )
    assert said(post(agent, record(attach), content_type=RECORDIO)) == (
        400,
        "Expecting 'Message-Content-Type' to be set for streaming requests",
    )
    assert said(post(agent, record(attach), content_type=RECORDIO, message_content_type=RECORDIO)) == (
        415,
        f"Expecting 'Message-Content-Type' of {JSON} or {PROTOBUF}",
    )
    assert said(post(agent, b"", **stream)) == (400, "Received EOF while reading request body")
    for body in (b"5\n{}", record(attach)[:-1]):
        assert said(post(agent, body, **stream)) == (400, "the stream ended within a record")
    for body in (b"x\n", b"99999999999999999999999\n", b"-1\n{}", record("x"), b"5\n{...}"):
        assert post(agent, body, **stream).status == 400
    encoded = recordio.encode(from_json(attach, Call).SerializeToString())
    assert post(agent, encoded, content_type=RECORDIO, message_content_type=PROTOBUF).status == 404


def test_a_stream_is_answered_before_its_end(agent: AgentProcess) -> None:
    agent.start()
    body = record(message("ATTACH_CONTAINER_INPUT", type="CONTAINER_ID", container_id=ID))
    with connected(agent) as connection:
        connection.putrequest("POST", "/api/v1")
        for header in (f"Content-Type: {RECORDIO}", f"Message-Content-Type: {JSON}", "Transfer-Encoding: chunked"):
            connection.putheader(*header.split(": "))
        connection.endheaders()
        for byte in range(len(body)):
            connection.send(b"1\r\n%c\r\n" % body[byte])
        assert connection.getresponse().status == 404


def test_a_body_that_is_damaged_on_the_way_is_400(agent: AgentProcess) -> None:
    agent.start()
    for headers in ({"content_type": JSON}, {"content_type": RECORDIO, "message_content_type": JSON}):
        answer = post(agent, b"this is not gzip", **headers, content_encoding="gzip")
        assert said(answer) == (
            400,
            "the body cannot be read: 400, message: Can not decode content-encoding: gzip",
        )


# Every call, in both formats.


def calls(name: str) -> Iterator[dict[str, Any]]:
    """Every call that is served, in an order in which each one has something to do; `name` is that of a container."""
    top, nested, older = identity(name), identity("new", name), identity("old", name)
    for kind in ("HEALTH", "FLAGS", "VERSION", "LOGGING_LEVEL", "STATE", "FRAMEWORKS", "EXECUTORS", "TASKS"):
        yield message(f"GET_{kind}")
    for kind in ("OPERATIONS", "AGENT", "RESOURCE_PROVIDERS", "CONTAINERS"):
        yield message(f"GET_{kind}")
    yield message("GET_METRICS", timeout={"nanoseconds": 5_000_000_000})
    yield message("SET_LOGGING_LEVEL", level=1, duration={"nanoseconds": 1_000_000_000})
    command = {"value": "echo hello; mkdir -p data; exec sleep 1000"}
    resources = [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}]
    limits = {"mem": {"value": 64.0}}
    yield message("LAUNCH_CONTAINER", container_id=top, command=command, resources=resources, limits=limits)
    yield message("LAUNCH_CONTAINER", container_id=nested, command={"value": "exec sleep 1000"})
    yield message("LAUNCH_NESTED_CONTAINER", container_id=older, command={"value": "exit 5"})
    yield message("LAUNCH_NESTED_CONTAINER", container_id=older, command={"value": "exit 5"})
    yield message("WAIT_NESTED_CONTAINER", container_id=older)
    yield message("KILL_NESTED_CONTAINER", container_id=older)
    yield message("REMOVE_NESTED_CONTAINER", container_id=older)
    yield message("GET_CONTAINERS", show_nested=True, show_standalone=True)
    yield message("LIST_FILES", path=f"/containers/{name}")
    yield message("LIST_FILES", path=f"/containers/{name}/data")
    yield message("READ_FILE", path=f"/containers/{name}/stdout", offset=1, length=3)
    yield message("KILL_CONTAINER", container_id=nested, signal=int(signal.SIGTERM))
    yield message("WAIT_CONTAINER", container_id=nested)
    yield message("REMOVE_CONTAINER", container_id=nested)
    yield message("KILL_CONTAINER", container_id=top)
    yield message("WAIT_CONTAINER", container_id=top)
    yield message("REMOVE_CONTAINER", container_id=top)
    yield message("WAIT_CONTAINER", container_id=top)
    yield message("PRUNE_IMAGES", excluded_images=[{"type": "DOCKER", "docker": {"name": "mysql:latest"}}])


def test_there_is_a_call_of_every_kind() -> None:
    assert {call["type"] for call in calls("x")} | UNSERVED.keys() | TALKING == set(Call.Type.keys())


def test_protobuf_says_what_json_does(agent: AgentProcess) -> None:
    agent.start()
    for call, same in zip(calls("j"), calls("p"), strict=True):
        answer = post(agent, json.dumps(call).encode())
        assert post_protobuf(agent, same).status == answer.status, call
        if answer.status == 200 and answer.body:  # It only reads, and can be asked for again.
            other = post_protobuf(agent, call)
            assert (answer.headers["Content-Type"], other.headers["Content-Type"]) == (JSON, PROTOBUF)
            assert lasting(from_json(answer.json, Response)) == lasting(Response.FromString(other.body))


def post_protobuf(agent: AgentProcess, call: dict[str, Any]) -> Answer:
    return post(agent, from_json(call, Call).SerializeToString(), content_type=PROTOBUF, accept=PROTOBUF)


def lasting(response: Response) -> Response:
    """The response without what is another amount at each moment."""
    for container in response.get_containers.containers:
        container.ClearField("resource_statistics")
    for metric in response.get_metrics.metrics:
        metric.ClearField("value")
    return response


def test_the_answer_may_have_another_format_than_the_call(agent: AgentProcess) -> None:
    agent.start()
    answer = post(agent, HEALTH, accept=PROTOBUF)
    assert Response.FromString(answer.body) == from_json(HEALTHY, Response)
    answer = post(agent, from_json(json.loads(HEALTH), Call).SerializeToString(), content_type=PROTOBUF)
    assert answer.json == HEALTHY


# Paths and methods.


def test_paths_and_methods(agent: AgentProcess) -> None:
    agent.start()
    found = ["/api/v1", "/api/v1/", "/slave(1)/api/v1", "/api/v1/operator", "/slave(1)/api/v1/x", "/api/v1/a/b//"]
    found += ["/slave%281%29/api/v1", "/api/v1?x=y", "/api/v1#x", "/%61pi/v1"]
    assert {path: post(agent, HEALTH, path).status for path in found} == dict.fromkeys(found, 200)
    missing = [
        "//",
        "//x",
        "/x",
        "/api",
        "/api/v2",
        "/api/v1x",
        "/slave(1)",
        "/slave(2)/api/v1",
        "//api/v1",
        "/api//v1",
    ]
    assert {path: post(agent, HEALTH, path).status for path in missing} == dict.fromkeys(missing, 404)
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"):
        answer = agent.request(method, "/api/v1")
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        expected = "" if method == "HEAD" else f"Expecting one of {{ 'POST' }}, but received '{method}'"
        assert answer.text == expected
    older = ["/state", "/flags", "/containers", "/containerizer/debug", "/monitor/statistics", "/health"]
    others = ["/files/debug", "/metrics/snapshot", "/metrics", "/system/stats.json", "/logging/toggle", "/version"]
    others += ["/help"]
    for path in (*older, *(f"/slave(1){path}" for path in older), *others):
        assert (agent.get(path).status, agent.get(f"{path}/").status) == (200, 200), path
        head = agent.request("HEAD", path)
        assert (head.status, head.body) == (200, b""), path
        if path != "/logging/toggle":
            answer = post(agent, b"", path)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET"), path
    for path in others:
        assert agent.get(f"/slave(1){path}").status == 404


def test_queries_are_checked(agent: AgentProcess) -> None:
    agent.start()
    ids = "Supported query parameters are container_id only, framework_id only, or executor_id and framework_id only"
    cases = {
        "/files/browse": (400, "Expecting 'path=value' in query.\n"),
        "/files/read": (400, "Expecting 'path=value' in query.\n"),
        "/files/download?path=": (400, "Expecting 'path=value' in query.\n"),
        "/files/read?path=/x&offset=x": (400, "Failed to parse offset: 'x' is no number"),
        "/files/read?path=/x&offset=-2": (400, "Negative offset provided: -2"),
        "/files/read?path=/x&offset=0&length=-2": (400, "Negative length provided: -2"),
        "/files/read?path=/x": (404, "there is nothing at '/x'"),
        "/containers?container_id=x&framework_id=y": (400, ids),
        "/containers?executor_id=y": (400, ids),
        "/containers?framework_id=x&executor_id=y": (200, "[]"),
        "/containers?show_nested=1": (400, "show_nested is true or false, not '1'"),
        "/logging/toggle?level=1": (400, "Expecting 'duration=value' in query"),
        "/logging/toggle?duration=1secs": (400, "Expecting 'level=value' in query"),
        "/logging/toggle?level=x&duration=1secs": (400, "Failed to parse level: 'x' is no number"),
        "/logging/toggle?level=-1&duration=1secs": (400, "Invalid level '-1'"),
        "/help/nope": (400, "No help available for '/nope'."),
    }
    assert {path: said(agent.get(path)) for path in cases} == cases
    for path in ("/metrics/snapshot?timeout=x", "/logging/toggle?level=1&duration=x"):
        assert agent.get(path).status == 400


def test_help_lists_what_there_is(agent: AgentProcess) -> None:
    agent.start()
    names = re.findall(r"^\[(.*)\]: (help/.*)$", agent.get("/help").text, re.MULTILINE)
    listed = [path for _, page in names for path in re.findall(r"\]: (.*)$", agent.get(f"/{page}").text, re.MULTILINE)]
    assert {"slave(1)/state", "files/browse", "metrics", "version"} <= set(listed)
    without_parameters = [
        path for path in listed if not path.startswith(("files/", "slave(1)/api/v1", "tasks", "terminal"))
    ]
    assert {agent.get(f"/{path}").status for path in without_parameters} == {200}
    page = agent.get("/help/slave(1)/state")
    assert page.headers["Content-Type"] == "text/x-markdown"
    assert page.text.startswith("### USAGE ###\n>        /state\n>        /slave(1)/state\n\n### TL;DR; ###\n")
    assert "`--authenticate_http_readonly`" in page.text
    assert agent.get("/help", Accept="text/html").headers["Content-Type"] == "text/plain; charset=utf-8"
    processes = {entry["id"]: entry["endpoints"] for entry in agent.get("/help?format=json").json["processes"]}
    assert [f"help/{name}" for name in processes] == [page for _, page in names]
    assert {"name": "/state", "text": page.text} in processes["slave(1)"]


def test_json_comes_as_a_script_that_calls_back(agent: AgentProcess) -> None:
    agent.start()
    paths = ["/state", "/slave(1)/state", "/flags", "/containers", "/containerizer/debug", "/monitor/statistics"]
    paths += ["/files/debug", "/metrics/snapshot", "/system/stats.json", "/version"]
    for path in paths:
        answer = agent.get(f"{path}?jsonp=site.on%5B0%5D")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/javascript"), path
        called = re.fullmatch(r"site\.on\[0\]\((.*)\)", answer.text, re.DOTALL)
        assert called is not None, path
        assert type(json.loads(called[1])) is type(agent.get(path).json), path
        for odd in ("", "alert(1)//", "a%20b", "x" * 129, "%3Cscript%3E"):
            assert agent.get(f"{path}?jsonp={odd}").status == 400, path
    answer = agent.get("/files/browse?path=/nope&jsonp=f")
    assert (answer.status, answer.text) == (404, "there is nothing at '/nope'")
    assert agent.get("/metrics?jsonp=f").headers["Content-Type"].startswith("text/plain")


def test_snapshots_of_the_metrics_are_limited(agent: AgentProcess) -> None:
    agent.start(env={**os.environ, "LIBPROCESS_METRICS_SNAPSHOT_ENDPOINT_RATE_LIMIT": "1/1000secs"})
    assert agent.get("/metrics/snapshot?timeout=1secs").status == 200
    with pytest.raises(TimeoutError):
        agent.request("GET", "/metrics/snapshot", timeout=0.5)
    assert agent.get("/metrics").status == 200
    assert agent.call("GET_METRICS", timeout={"nanoseconds": 10**9}).status == 200


# Who may do what.


CREDENTIALS = {"credentials": [{"principal": "ops", "secret": "s3"}, {"principal": "guest", "secret": "s4"}]}
GUARDED = {
    "LAUNCH_CONTAINER": "launch_standalone_containers",
    "WAIT_CONTAINER": "wait_standalone_containers",
    "KILL_CONTAINER": "kill_standalone_containers",
    "REMOVE_CONTAINER": "remove_standalone_containers",
    "LAUNCH_NESTED_CONTAINER": "launch_nested_containers_as_user",
    "WAIT_NESTED_CONTAINER": "wait_nested_containers",
    "KILL_NESTED_CONTAINER": "kill_nested_containers",
    "REMOVE_NESTED_CONTAINER": "remove_nested_containers",
    "GET_FLAGS": "view_flags",
    "SET_LOGGING_LEVEL": "set_log_level",
    "PRUNE_IMAGES": "prune_images",
}
"""Calls, and the lists that they are allowed by."""
_OBJECTS = {"view_flags": "flags", "set_log_level": "level", "prune_images": "images", "get_endpoints": "paths"}


def acls() -> str:
    """Everything is for `ops` only."""
    names = [*GUARDED.values(), "view_standalone_containers", "get_endpoints"]
    rules = {
        name: [
            {"principals": {"values": ["ops"]}, _OBJECTS.get(name, "users"): {"type": "ANY"}},
            {"principals": {"type": "ANY"}, _OBJECTS.get(name, "users"): {"type": "NONE"}},
        ]
        for name in names
    }
    return json.dumps(rules)


def basic(principal: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{principal}:{secret}".encode()).decode()


def test_credentials_and_access_control_lists(agent: AgentProcess, run_directory: Path) -> None:
    credentials = run_directory / "credentials"
    credentials.write_text(json.dumps(CREDENTIALS))
    credentials.chmod(0o600)
    guard = ("--authenticate_http_readonly", "--authenticate_http_readwrite", f"--http_credentials={credentials}")
    agent.start(*guard, f"--acls={acls()}")
    ops, guest = basic("ops", "s3"), basic("guest", "s4")
    guarded = {"/state", "/containers", "/flags", "/files/debug", "/metrics/snapshot", "/slave(1)/containers"}
    for wrong in ("", basic("ops", "s4"), basic("nobody", ""), "Basic !", "Bearer x"):
        answer = post(agent, HEALTH, authorization=wrong)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="mesos-agent-readwrite"')
        for path in guarded:
            answer = agent.get(path, Authorization=wrong)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="mesos-agent-readonly"')
    assert {path: agent.get(path).status for path in ("/health", "/version", "/help")} == {
        "/health": 200,
        "/version": 200,
        "/help": 200,
    }
    assert post(agent, HEALTH, authorization=guest).json == HEALTHY
    answers: dict[str, set[str]] = {"guest": set(), "ops": set()}
    for call in calls("x"):
        for principal, authorization in (("guest", guest), ("ops", ops)):
            if post(agent, json.dumps(call).encode(), authorization=authorization).status == 403:
                answers[principal].add(call["type"])
    assert answers == {"guest": set(GUARDED), "ops": set()}
    forbidden = {path for path in guarded if agent.get(path, Authorization=guest).status == 403}
    assert forbidden == guarded - {"/state"}
    assert {agent.get(path, Authorization=ops).status for path in guarded} == {200}
    # What there is, but may not be seen, is left out.
    body = json.dumps(message("LAUNCH_CONTAINER", container_id=identity("x"), command={"value": "sleep 1000"})).encode()
    assert post(agent, body, authorization=ops).status == 200
    shown = json.dumps(message("GET_CONTAINERS", show_standalone=True)).encode()
    assert "get_containers" in post(agent, shown, authorization=ops).json
    assert post(agent, shown, authorization=guest).json == {"type": "GET_CONTAINERS"}
    assert "flags" in agent.get("/state", Authorization=ops).json
    assert "flags" not in agent.get("/state", Authorization=guest).json


# What cannot be done now.


def test_what_a_container_is_not_ready_for_is_409(agent: AgentProcess) -> None:
    agent.start()
    with ThreadPoolExecutor() as threads, silent_server() as server:
        command = {"value": "true", "uris": [{"value": server.url}]}
        launch = threads.submit(agent.call, "LAUNCH_CONTAINER", container_id=identity("x"), command=command)
        with server.accept():
            assert said(agent.call("KILL_CONTAINER", container_id=identity("x"))) == (
                409,
                "x is not running, but FETCHING",
            )
            removal = agent.call("REMOVE_CONTAINER", container_id=identity("x"))
            assert said(removal) == (409, "x has not ended; destroy it first")
            pending = [{"operation": "FETCHING", "args": {"containerId": "x"}}]
            assert agent.get("/containerizer/debug").json == {"pending": pending}
            assert agent.launch("x", "true").status == 202
            assert agent.launch("kid", "true", nested_in="x").status == 400
            wait = threads.submit(agent.call, "WAIT_CONTAINER", container_id=identity("x"))
        assert launch.result().status == 400
        assert wait.result().status == 200
    assert agent.call("WAIT_CONTAINER", container_id=identity("x")).status == 404
    assert agent.launch("x", "sleep 1000").status == 200
    removal = agent.call("REMOVE_CONTAINER", container_id=identity("x"))
    assert said(removal) == (409, "x has not ended; destroy it first")


_LOGGER = """
import asyncio
from mesocosm.loggers.base import ContainerLogger


class Waiting(ContainerLogger):
    async def recover(self, containers):
        await asyncio.to_thread(lambda: open({fifo!r}).close())
"""


def test_before_it_has_recovered_the_agent_says_so(
    agent: AgentProcess, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = run_directory / "go"
    packages = run_directory / "packages"
    information = packages / "waiting-1.dist-info"
    information.mkdir(parents=True)
    (packages / "waiting.py").write_text(_LOGGER.format(fifo=str(fifo)))
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: waiting\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[mesocosm.container_loggers]\nwaiting = waiting:Waiting\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    os.mkfifo(fifo)
    agent.spawn("--container_logger=waiting")
    agent.host, port = agent.await_log(re.compile(r"listening on http://(\S+):(\d+)")).groups()
    agent.port = int(port)
    unready = (503, "Agent has not finished recovery")
    assert said(agent.call("GET_HEALTH")) == unready
    assert said(post(agent, b"", content_type="")) == unready
    assert said(agent.get("/state")) == unready
    assert agent.request("GET", "/api/v1").status == 405
    assert {agent.get(path).status for path in ("/health", "/version", "/flags", "/metrics/snapshot")} == {200}
    fifo.write_text("")
    agent.await_log(re.compile("recovered 0 containers"))
    assert agent.call("GET_HEALTH").json == HEALTHY
    assert agent.get("/state").status == 200


# Connections.


def test_a_connection_is_good_for_many_calls(agent: AgentProcess) -> None:
    agent.start()
    requests = [("POST", "/api/v1", HEALTH, 200), ("POST", "/api/v1", b"{", 400), ("GET", "/version", None, 200)]
    requests += [("GET", "/nope", None, 404), ("HEAD", "/state", None, 200), ("GET", "/api/v1", None, 405)]
    with connected(agent) as connection:
        for method, path, body, status in requests * 3:
            connection.request(method, path, body, {"Content-Type": JSON})
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_requests_may_be_sent_before_answers_are_read(agent: AgentProcess) -> None:
    agent.start()
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = exchange(agent, health * 20 + b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 21
    assert answers.endswith(b"}")


def test_what_is_no_http_ends_its_connection(agent: AgentProcess) -> None:
    agent.start()
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        health + b"\x00\xffGARBAGE\r\n\r\n",
        health[:-2] + b"X" * 10_000 + b": y\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    for data in garbage:
        assert re.match(rb"HTTP/1\.\d 400 Bad Request\r\n", exchange(agent, data)), data
    assert agent.call("GET_HEALTH").json == HEALTHY
    assert "ERROR" not in agent.log.read_text()


def test_a_client_may_wait_to_be_asked_for_the_body(agent: AgentProcess) -> None:
    agent.start()
    head = f"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(HEALTH)}\r\n"
    with socket.create_connection((agent.host, agent.port), TIMEOUT) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(HEALTH)
        assert b"".join(iter(lambda: connection.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_unix_socket(agent: AgentProcess, run_directory: Path) -> None:
    path = run_directory / "agent.sock"
    agent.start(f"--operator_socket={path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answer = agent.request("POST", "/api/v1", HEALTH, {"Content-Type": JSON}, unix_socket=path)
    assert answer.json == HEALTHY
    for endpoint in ("/health", "/version", "/slave(1)/state"):
        assert agent.request("GET", endpoint, unix_socket=path).status == 200
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    agent.start(f"--operator_socket={path}")
    assert agent.request("GET", "/health", unix_socket=path).status == 200
    assert agent.stop() == 0
    assert not path.exists()
