"""Garbage: whatever the agent is sent, it says what is wrong with that, goes on, and keeps nothing of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesocosm.agent import rate_limit
from mesocosm.api.json import from_json
from mesocosm.api.v1.agent import Call
from tests.agent_held import Holdings
from tests.agent_process import AgentProcess, Answer, identity

pytestmark = pytest.mark.kernel

PATIENCE = 10.0
"""Seconds that an answer to garbage may take."""
EXPECTED = frozenset({200, 202, 400, 404, 405, 406, 408, 409, 413, 415, 501})
GARBAGE = settings(deadline=None, derandomize="CI" in os.environ, suppress_health_check=list(HealthCheck))
JSON, PROTOBUF, RECORDIO = "application/json", "application/x-protobuf", "application/recordio"


# An agent that is sent garbage.


class Target:
    """An agent with a container `top` that lasts, which no call but those for its nested containers is about."""

    def __init__(self, agent: AgentProcess, directory: Path) -> None:
        self.agent = agent
        self._holdings = Holdings(agent, directory)
        agent.start(env={**self._holdings.env, rate_limit.VARIABLE: ""})
        assert agent.launch("top", "echo hello; sleep 1000").status == 200
        # What is made at the first launch, the first terminal and the first look at a file is made now.
        assert agent.launch("a", "true", container={"type": "MESOS", "tty_info": {}}).status == 200
        for name in ("a", "top"):
            assert agent.get(f"/files/browse?path=/containers/{name}").status == 200
        agent.wait_for("a")
        agent.call("REMOVE_CONTAINER", container_id=identity("a"))
        self._before = self._holdings.at_rest()

    def post(self, body: bytes, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.check(self.agent.request("POST", "/api/v1", body, named, timeout=PATIENCE))

    def check(self, answer: Answer) -> Answer:
        assert answer.status in EXPECTED, answer
        return answer

    def check_end(self) -> None:
        """All that garbage has made is known, and can be ended and removed; and nothing of it is left then."""
        for container_id in sorted(self._recorded(), key=lambda found: str(found).count("parent"), reverse=True):
            self.agent.call("KILL_CONTAINER", container_id=container_id)
            assert self.agent.call("WAIT_CONTAINER", container_id=container_id).status == 200, container_id
            assert self.agent.call("REMOVE_CONTAINER", container_id=container_id).status == 200, container_id
        assert self.agent.containers().keys() == {"top"}
        assert list(self._recorded()) == []
        sandboxes = self.agent.flags.work_dir / "containers"
        assert [path.name for path in sandboxes.iterdir()] == ["top"]
        assert list((sandboxes / "top").glob("containers/*")) == []
        assert self._holdings.settled(self._before) == []
        assert self.agent.call("GET_HEALTH").status == 200
        log = self.agent.log.read_text()
        assert "raceback" not in log
        assert " ERROR " not in log

    def _recorded(self) -> Iterator[dict[str, Any]]:
        """Every container that is on record, but `top`."""

        def within(directory: Path, parent: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
            for path in (directory / "containers").glob("*"):
                found = {"value": path.name} | ({"parent": parent} if parent else {})
                if found != {"value": "top"}:
                    yield found
                yield from within(path, found)

        return within(self.agent.flags.runtime_dir, None)


@pytest.fixture
def target(agent: AgentProcess, run_directory: Path) -> Iterator[Target]:
    found = Target(agent, run_directory)
    yield found
    found.check_end()


# What is hostile about values.


HOSTILE_TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", ".", "..", "/", "../../etc", "a/b", "a\\b", "a.b", "x y", "ä", "\0", "a\0b", "a\nb", "*"]
    ),
    st.sampled_from(["\ud800", "\u202e", "\U0010ffff", "-1", "a" * 242, "a" * 243, "a" * 5000, "x" * (1 << 20)]),
    st.text(max_size=20),
)
HOSTILE_INTEGERS = st.sampled_from(
    [0, 1, -1, 9, 15, 64, 65, 255, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30]
)
HOSTILE_FLOATS = st.one_of(st.floats(), st.sampled_from(["Infinity", "-Infinity", "NaN", "1e999", 1e308, 5e-324, 0.0]))
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    HOSTILE_INTEGERS,
    st.floats(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)
"""What is no text: some texts are commands."""

# Texts of which some are good. Commands end at once and do nothing; what is fetched is not there.
COMMANDS = st.sampled_from(
    ["true", "exit 3", "kill -9 $$", "/bin/true", "/nonexistent", "", "\0", "ä", "x" * (1 << 20)]
)
NAMES = st.one_of(st.sampled_from(["a", "b", "c", "d"]), HOSTILE_TEXTS)
USERS = st.one_of(st.sampled_from(["root", "nobody", "nosuch", "0", "65534", "99999999999999"]), HOSTILE_TEXTS)
URIS = st.sampled_from(
    ["http://127.0.0.1:1/x", "file:///nonexistent", "/etc/hostname", "x", "", "\0", "ftp://127.0.0.1:1/"]
)
PATHS = st.one_of(
    st.sampled_from(["/containers/top", "/containers/top/stdout", "/containers/top/../..", "/containers/top/nope"]),
    HOSTILE_TEXTS,
)
VOLUME_PATHS = st.sampled_from(["data", "/mnt", "/nonexistent", "../x", "", "\0", "a" * 5000, "/tmp/x/../y"])
TEXTS = {
    "mesos.v1.CommandInfo.value": COMMANDS,
    "mesos.v1.CommandInfo.user": USERS,
    "mesos.v1.CommandInfo.URI.value": URIS,
    "mesos.v1.Volume.host_path": VOLUME_PATHS,
    "mesos.v1.Volume.container_path": VOLUME_PATHS,
    "mesos.v1.Volume.Source.HostPath.path": VOLUME_PATHS,
    "mesos.v1.Volume.Source.SandboxPath.path": VOLUME_PATHS,
    "mesos.v1.Resource.name": st.sampled_from(["cpus", "mem", "disk", "gpus", "ports", "x"]),
    "mesos.v1.agent.Call.ListFiles.path": PATHS,
    "mesos.v1.agent.Call.ReadFile.path": PATHS,
}


# Calls of the right shape.


@cache
def messages(descriptor: Descriptor, depth: int = 5) -> st.SearchStrategy[Any]:
    """Messages in JSON, with fields that are as they should be, or missing, or odd."""
    if descriptor.full_name == "mesos.v1.ContainerID":
        return container_ids()
    if depth == 0:
        return st.just({})
    fields = {field.name: values(field, depth - 1) for field in descriptor.fields}
    required = {field.name: fields.pop(field.name) for field in descriptor.fields if field.is_required}
    # Few at a time: with all of them nothing comes far.
    some = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True) if fields else st.just([])
    return some.flatmap(lambda names: st.fixed_dictionaries({**required, **{name: fields[name] for name in names}}))


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return st.dictionaries(st.sampled_from(["cpus", "mem", "disk", ""]), values(value, depth), max_size=2)
    one = single(field, depth)
    right = st.lists(one, max_size=2) if field.is_repeated else one
    return st.integers(0, 9).flatmap(lambda number: WRONG if number == 0 else right)


def single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth)
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_name, "NOPE", ""])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.sampled_from([True, False, "true", "no"])
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.one_of(HOSTILE_FLOATS, st.sampled_from([0.1, 1, 64, -1]))
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return TEXTS.get(field.full_name, HOSTILE_TEXTS)
    return HOSTILE_INTEGERS


def container_ids() -> st.SearchStrategy[Any]:
    """Names, also in `top` and in one another, but never `top` itself: it would be waited for."""
    named = NAMES.map(lambda name: {"value": name})
    in_top = named.map(lambda found: {**found, "parent": {"value": "top"}})
    in_each_other = st.lists(st.sampled_from(["a", "b", "top"]), max_size=4).map(nested)
    odd = st.sampled_from([{}, nested(["a"] * 99), nested(["a"] * 200), {"value": "a", "parent": {}}])
    return st.one_of(named, named, in_top, in_top, in_each_other, odd)


def nested(parents: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in parents:
        found = {"value": name, **({"parent": found} if found else {})}
    return {"value": "a", **({"parent": found} if found else {})}


def parameters(kind: str) -> st.SearchStrategy[Any]:
    field = Call.DESCRIPTOR.fields_by_name.get(kind.lower())
    one = st.just({}) if field is None or field.message_type is None else messages(field.message_type)
    return st.fixed_dictionaries({"type": st.just(kind), kind.lower(): one})


CALLS = st.sampled_from(Call.Type.keys()).flatmap(parameters)


@settings(GARBAGE, max_examples=300)
@given(call=CALLS)
def test_calls_of_odd_values(target: Target, call: dict[str, Any]) -> None:
    refused(target.post(json.dumps(call).encode(), content_type=JSON))


def refused(answer: Answer) -> None:
    """What is wrong is said in one line, however much was sent."""
    assert answer.status == 200 or ("\n" not in answer.text and len(answer.body) < 10_000)


# Good calls with a few odd values.


def launch(kind: str = "LAUNCH_CONTAINER", **fields: Any) -> dict[str, Any]:
    return {"type": kind, kind.lower(): fields}


ID, IN_TOP = {"value": "a"}, {"value": "a", "parent": {"value": "top"}}
TRUE = {"value": "true", "shell": True}
AMOUNTS = {
    "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
    "limits": {"mem": {"value": 64.0}},
}
VARIABLES = {"environment": {"variables": [{"name": "A", "type": "VALUE", "value": "b"}]}}
SELF = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "data"}}
HOST = {"type": "HOST_PATH", "host_path": {"path": "/mnt", "mount_propagation": {"mode": "HOST_TO_CONTAINER"}}}
GOOD = [
    launch(container_id=ID, command=TRUE),
    launch(container_id=ID, command=TRUE | {"user": "nobody"} | VARIABLES, **AMOUNTS),
    launch(container_id=ID, command={"value": "/bin/true", "shell": False, "arguments": ["true", "x"]}, **AMOUNTS),
    launch(container_id=ID, command=TRUE | {"uris": [{"value": "/etc/passwd", "output_file": "x", "cache": True}]}),
    launch(
        container_id=ID,
        command=TRUE,
        container={"type": "MESOS", "tty_info": {"window_size": {"rows": 9, "columns": 9}}},
    ),
    launch(
        container_id=ID,
        command=TRUE,
        container={"type": "MESOS", "linux_info": {"ipc_mode": "PRIVATE", "shm_size": 16}},
    ),
    *(
        launch(
            container_id=ID,
            command=TRUE,
            container={"type": "MESOS", "volumes": [{"mode": "RW", "container_path": "data", "source": source}]},
        )
        for source in (SELF, HOST)
    ),
    launch(container_id=IN_TOP, command=TRUE),
    launch("LAUNCH_NESTED_CONTAINER", container_id=IN_TOP, command=TRUE | VARIABLES),
    *(launch(f"{verb}_CONTAINER", container_id=ID) for verb in ("WAIT", "REMOVE")),
    *(launch(f"{verb}_NESTED_CONTAINER", container_id=IN_TOP) for verb in ("WAIT", "REMOVE")),
    launch("KILL_CONTAINER", container_id=ID, signal=9),
    launch("KILL_NESTED_CONTAINER", container_id=IN_TOP, signal=15),
    launch("GET_CONTAINERS", show_nested=True, show_standalone=True),
    launch("LIST_FILES", path="/containers/top"),
    launch("READ_FILE", path="/containers/top/stdout", offset=0, length=10),
    launch("SET_LOGGING_LEVEL", level=1, duration={"nanoseconds": 1_000_000}),
    launch("GET_METRICS", timeout={"nanoseconds": 1_000_000_000}),
]
Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where values are in a message."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield place
    for key, part in entries:
        yield from places(part, (*place, key))


def replacement(call: Any, place: Place) -> st.SearchStrategy[Any]:
    value = call
    for key in place:
        value = value[key]
    if place[-2:] == ("command", "value"):
        return st.one_of(COMMANDS, WRONG)
    if "container_id" in place and place[-1] == "value" and "parent" not in place:
        return NAMES
    hostile: dict[type, st.SearchStrategy[Any]] = {
        str: HOSTILE_TEXTS,
        bool: st.sampled_from([True, False, "true", "no"]),
        int: HOSTILE_INTEGERS,
        float: HOSTILE_FLOATS,
    }
    right = hostile[type(value)]
    return st.integers(0, 9).flatmap(lambda number: WRONG if number == 0 else right)


@st.composite
def nearly_good(draw: st.DrawFn) -> dict[str, Any]:
    """A good call about a container of any name, with up to two odd values."""
    call: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(GOOD))))
    if "container_id" in (fields := call[call["type"].lower()]):
        fields["container_id"]["value"] = draw(st.one_of(st.sampled_from("abc"), st.integers(0, 999).map(str)))
    leaves = [place for place in places(call) if place != ("type",)]
    for place in draw(st.lists(st.sampled_from(leaves), max_size=2, unique=True)):
        value: Any = call
        for key in place[:-1]:
            value = value[key]
        value[place[-1]] = draw(replacement(call, place))
    return call


@settings(GARBAGE, max_examples=300)
@given(call=nearly_good())
def test_good_calls_with_odd_values(target: Target, call: dict[str, Any]) -> None:
    refused(target.post(json.dumps(call).encode(), content_type=JSON))


# Bytes.


ENCODED = [from_json(call, Call).SerializeToString() for call in GOOD]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good call in protobuf with up to three other bytes in it, or without its end."""
    data = bytearray(draw(st.sampled_from(ENCODED)))
    for position in draw(st.lists(st.integers(0, len(data) - 1), max_size=3)):
        data[position] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@settings(GARBAGE, max_examples=300)
@given(data=st.one_of(damaged(), st.binary(max_size=100)))
def test_bytes_as_protobuf(target: Target, data: bytes) -> None:
    refused(target.post(data, content_type=PROTOBUF, accept=JSON))


@settings(GARBAGE, max_examples=100)
@given(data=st.binary(max_size=50), length=st.integers(0, 60), kind=st.sampled_from([JSON, PROTOBUF]))
def test_bytes_as_a_stream(target: Target, data: bytes, length: int, kind: str) -> None:
    refused(target.post(b"%d\n%s" % (length, data), content_type=RECORDIO, message_content_type=kind))


@settings(GARBAGE, max_examples=150)
@given(
    head=st.sampled_from(
        [b"", b"GET /health HTTP/1.1\r\n", b"POST /api/v1 HTTP/1.1\r\nContent-Type: application/json\r\n"]
    ),
    data=st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode)),
    tail=st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
)
def test_bytes_as_http(target: Target, head: bytes, data: bytes, tail: bytes) -> None:
    with socket.create_connection((target.agent.host, target.agent.port), PATIENCE) as connection:
        connection.sendall(head + data + tail)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:  # It has not read all of what it did not want.
            return
    assert b" 500 " not in answer.partition(b"\r\n")[0]


# Paths and queries.


ENDPOINTS = [
    *("/state", "/flags", "/containers", "/containerizer/debug", "/monitor/statistics", "/health", "/version", "/help"),
    *("/files/browse", "/files/read", "/files/download", "/files/debug", "/logging/toggle", "/system/stats.json"),
    *("/metrics/snapshot", "/metrics", "/api/v1"),
]
PARAMETERS = [
    *("path", "offset", "length", "container_id", "executor_id", "framework_id", "show_nested", "show_standalone"),
    *("level", "duration", "timeout", "jsonp", ""),
]
ODD_NUMBERS = HOSTILE_INTEGERS.map(str) | st.sampled_from(
    ["1e9", "0x1", quote("\N{ARABIC-INDIC DIGIT ONE}"), "1" * 5000, "nan", "1secs", "-1hrs", "1e400days"]
)
ESCAPED = st.one_of(
    HOSTILE_TEXTS.filter(lambda text: len(text) < 5000), PATHS.filter(lambda text: len(text) < 5000)
).map(lambda text: quote(text.encode(errors="surrogatepass"), safe=""))
PARTS = st.one_of(ESCAPED, st.sampled_from(["%ff%fe", "%00", "%", "%zz", "%c3%28", "..", "%2e%2e", "+", "&", "="]))


@settings(GARBAGE, max_examples=400)
@given(
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS"]),
    path=st.tuples(
        st.sampled_from(["", "/slave(1)"]), st.sampled_from([*ENDPOINTS, "/", ""]), st.lists(PARTS, max_size=2)
    ),
    query=st.lists(st.tuples(st.sampled_from(PARAMETERS), st.one_of(ODD_NUMBERS, PARTS)), max_size=4),
)
def test_paths_and_queries(
    target: Target, method: str, path: tuple[str, str, list[str]], query: list[tuple[str, str]]
) -> None:
    prefix, endpoint, parts = path
    address = "/".join([prefix + endpoint, *parts]) + "?" + "&".join(f"{name}={text}" for name, text in query)
    target.check(target.agent.request(method, address, timeout=PATIENCE))


def test_large_and_deep_bodies(target: Target) -> None:
    deep = b'{"type":"WAIT_CONTAINER","wait_container":{"container_id":'
    bodies = [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        deep + b'{"parent":' * 100_000,
        b'{"type":"' + b"x" * (15 << 20) + b'"}',
        b'{"type":"GET_HEALTH","' + b"x" * (15 << 20) + b'":1}',
        b'{"type":1' + b"0" * 1_000_000 + b"}",
        b"\x00" * (1 << 20),
        b" " * (15 << 20),
    ]
    for body in bodies:
        refused(target.post(body, content_type=JSON))
        refused(target.post(body, content_type=PROTOBUF))
    nested_groups = b"\x0b" * 1_000_000
    nested_ids = b""
    for _ in range(5000):
        length = len(nested_ids)
        varint = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
        nested_ids = b"\x12" + varint + nested_ids
    for data in (nested_groups, b"\x08\x17\x72" + nested_ids):
        refused(target.post(data, content_type=PROTOBUF))
