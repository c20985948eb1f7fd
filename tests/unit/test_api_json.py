"""Messages as JSON and as protobuf: what Mesos wrote, and what nobody should send."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from mesocosm.api import v1
from mesocosm.api.binary import from_bytes
from mesocosm.api.json import from_json, loads, to_json
from mesocosm.api.v1.agent import Call, ProcessIO, Response
from tests.unit import recorded

ANSWERS = recorded.answers()
WAIT, OFFSET, IMAGES = "wait_container.container_id", "read_file.offset", "prune_images.excluded_images"
LAUNCH = {
    "type": "LAUNCH_CONTAINER",
    "launch_container": {
        "container_id": {"value": "kid", "parent": {"value": "top"}},
        "command": {"value": "true", "shell": False, "arguments": ["true"]},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}],
        "limits": {"cpus": {"value": 1.0}},
    },
}


def without_empty_lists(value: Any) -> Any:
    """GET_STATE and its like are written by hand in Mesos, with lists that have nothing in them."""
    if isinstance(value, dict):
        return {key: without_empty_lists(part) for key, part in value.items() if part != []}
    if isinstance(value, list):
        return [without_empty_lists(part) for part in value]
    return value


def outcome(read: Callable[[Any, type[Call]], Call], value: object) -> Call | str:
    """The call that a value is, or why it is none."""
    try:
        return read(value, Call)
    except ValueError as error:
        return str(error)


# What Mesos wrote.


def test_there_are_recorded_answers() -> None:
    assert {"GET_AGENT", "GET_CONTAINERS", "GET_STATE", "GET_VERSION", "wait_container"} <= ANSWERS.keys()
    assert len(ANSWERS) == 13


@pytest.mark.parametrize("name", ANSWERS)
def test_a_recorded_answer_comes_back_as_it_was(name: str) -> None:
    answer = without_empty_lists(ANSWERS[name])
    message = from_json(answer, Response)
    assert json.dumps(to_json(message)) == json.dumps(answer), "also the order, and the types of numbers"
    assert from_bytes(message.SerializeToString(), Response) == message


# Writing.


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (v1.CommandInfo(), {"shell": True}),
        (
            v1.FrameworkInfo(user="u", name="n"),
            {"user": "u", "name": "n", "failover_timeout": 0.0, "checkpoint": False},
        ),
        (v1.Resource(name="x", type="SET"), {"name": "x", "type": "SET"}),
        (v1.Resource(name="x", type="SET", role="*"), {"name": "x", "type": "SET", "role": "*"}),
        (v1.HealthCheck.HTTPCheckInfo(port=1, statuses=[200]), {"protocol": "IPv4", "port": 1, "statuses": [200]}),
        (v1.UUID(value=b"\0\xff"), {"value": "AP8="}),
        (v1.TimeInfo(nanoseconds=-(2**63)), {"nanoseconds": -(2**63)}),
        (v1.Value.Scalar(value=1), {"value": 1.0}),
        (v1.Value.Scalar(value=math.inf), {"value": "Infinity"}),
        (v1.Value.Scalar(value=-math.inf), {"value": "-Infinity"}),
        (v1.TaskInfo(limits={"mem": v1.Value.Scalar(value=1)}), {"limits": {"mem": {"value": 1.0}}}),
        (Response(get_operations=Response.GetOperations()), {"get_operations": {}}),
        (Response.GetContainers(), {}),
        (v1.CSIPluginContainerInfo(services=["NODE_SERVICE"]), {"services": ["NODE_SERVICE"]}),
        (
            v1.Volume.Source.CSIVolume.StaticProvisioning(volume_context={"a": "b"}),
            {"volume_context": {"a": "b"}},
        ),
    ],
    ids=repr,
)
def test_writing(message: Message, expected: dict[str, Any]) -> None:
    found = to_json(message)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


# Reading.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value": 1}, 1.0),
        ({"value": "1.5"}, 1.5),
        ({"value": "Infinity"}, math.inf),
        ({"value": "-Infinity"}, -math.inf),
        ({"value": 1.0, "unknown": [{}]}, 1.0),
    ],
)
def test_reading_numbers(value: dict[str, Any], expected: float) -> None:
    assert from_json(value, v1.Value.Scalar).value == expected


@pytest.mark.parametrize("value", [3, 3.0, "3", "3.0", "3e0"])
def test_reading_whole_numbers(value: object) -> None:
    assert from_json({"number": value}, v1.Port).number == 3


def test_null_is_as_if_it_was_absent() -> None:
    call = from_json({"type": "GET_STATE", "read_file": None, "unknown": None}, Call)
    assert not call.HasField("read_file")
    launch = {"container_id": {"value": "a"}, "resources": [None], "limits": {"cpus": None}}
    read = from_json({"launch_container": launch}, Call).launch_container
    assert (len(read.resources), len(read.limits)) == (0, 0)


def test_a_message_without_fields_is_present() -> None:
    assert from_json({"get_metrics": {}}, Call).HasField("get_metrics")


def test_booleans_may_be_texts() -> None:
    assert from_json({"shell": "false"}, v1.CommandInfo).shell is False


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "Expecting a JSON object"),
        (None, "Expecting a JSON object"),
        ({"type": 3}, "Not expecting a JSON number for field 'type'"),
        ({"type": "FOO"}, "Failed to find enum for 'FOO' of field 'type'"),
        ({"type": "X" * 99 + "\n"}, f"Failed to find enum for '{'X' * 61}...' of field 'type'"),
        ({"wait_container": {}}, f"Missing required fields: {WAIT}"),
        ({"wait_container": {"container_id": {"value": None}}}, f"Missing required fields: {WAIT}.value"),
        ({"wait_container": "x"}, "Not expecting a JSON string for field 'wait_container'"),
        ({"wait_container": [{}]}, "Not expecting a JSON array for field 'wait_container'"),
        ({"wait_container": {"container_id": True}}, f"Not expecting a JSON boolean for field '{WAIT}'"),
        ({"list_files": {"path": {}}}, "Not expecting a JSON object for field 'list_files.path'"),
        ({"list_files": {"path": "\ud800"}}, "Not expecting half of a surrogate pair for field 'list_files.path'"),
        ({"read_file": {"path": "x", "offset": -1}}, f"The number is out of range for field '{OFFSET}'"),
        ({"read_file": {"path": "x", "offset": 2**64}}, f"The number is out of range for field '{OFFSET}'"),
        ({"read_file": {"path": "x", "offset": 10**999}}, f"The number is out of range for field '{OFFSET}'"),
        ({"read_file": {"path": "x", "offset": math.nan}}, f"The number is out of range for field '{OFFSET}'"),
        ({"read_file": {"path": "x", "offset": 1.5}}, f"Expecting a whole number for field '{OFFSET}'"),
        ({"read_file": {"offset": "1x"}}, f"Failed to parse '1x' as a JSON number for field '{OFFSET}'"),
        ({"read_file": {"offset": "Infinity"}}, f"Failed to parse 'Infinity' as a JSON number for field '{OFFSET}'"),
        ({"read_file": {"offset": "\u0661"}}, f"Failed to parse '\u0661' as a JSON number for field '{OFFSET}'"),
        ({"prune_images": {"excluded_images": {}}}, f"Not expecting a JSON object for field '{IMAGES}'"),
        (
            {"prune_images": {"excluded_images": [None, {"docker": {"name": 1}}]}},
            f"Not expecting a JSON number for field '{IMAGES}[1].docker.name'",
        ),
        (
            {"launch_container": {"limits": {"a\n": {"value": 1e999}}}},
            "The number is out of range for field 'launch_container.limits[a\\n].value'",
        ),
        ({"launch_container": {"limits": []}}, "Not expecting a JSON array for field 'launch_container.limits'"),
        (
            {"launch_container": {"limits": {"cpus": {"value": 10**400}}}},
            "The number is out of range for field 'launch_container.limits[cpus].value'",
        ),
        (
            {"launch_container": {"command": {"shell": "no"}}},
            "Failed to parse 'no' as a JSON boolean for field 'launch_container.command.shell'",
        ),
        (
            {"launch_container": {"command": {"arguments": ["a", 1]}}},
            "Not expecting a JSON number for field 'launch_container.command.arguments[1]'",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(value: object, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_json(value, Call)
    assert str(caught.value) == expected


def test_a_number_that_cannot_even_be_printed() -> None:
    for value in ({"level": 10**5000}, {"level": -(10**5000)}):
        with pytest.raises(ValueError, match=r"^The number is out of range for field 'set_logging_level\.level'$"):
            from_json({"set_logging_level": value}, Call)


@pytest.mark.parametrize("text", ["=", "a", "ab=", "a-b_", "\u00e9", "YQ==\n", "Y Q=="])
def test_bytes_that_are_not_base64(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Failed to base64 decode bytes field 'data.data': "):
        from_json({"data": {"data": text}}, ProcessIO)


def nested(depth: int) -> Any:
    value: Any = {"value": "x"}
    for _ in range(depth):
        value = {"value": "x", "parent": value}
    return value


def test_a_message_as_deep_as_protobuf_has_them() -> None:
    message = from_json(nested(98), v1.ContainerID)
    assert from_bytes(message.SerializeToString(), v1.ContainerID) == message


@pytest.mark.parametrize("depth", [101, 500])
def test_a_message_that_is_too_deep(depth: int) -> None:
    with pytest.raises(ValueError, match=r"^Nested too deeply: field 'parent.parent"):
        from_json(nested(depth), v1.ContainerID)


def test_no_more_than_some_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"^Missing required fields: (\S+, ){10}\.\.\.$"):
        from_json({"prune_images": {"excluded_images": [{}] * 999}}, Call)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"nul", b"NaN", b"1e999", b"{}x", b'"\xff"', b"[" * 10**6, b'{"a":' * 10**6, "{}".encode("utf-16")],
)
def test_text_that_is_no_json(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^Failed to parse body into JSON: "):
        loads(text)


@given(st.binary(max_size=40))
def test_any_text(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        from_json(loads(text), Call)


def names_of(descriptor: Descriptor, seen: set[str]) -> set[str]:
    """The names of all fields of a message, and of those in it."""
    if descriptor.full_name not in seen:
        seen.add(descriptor.full_name)
        seen.update(field.name for field in descriptor.fields)
        for field in descriptor.fields:
            if field.message_type is not None:
                names_of(field.message_type, seen)
    return {name for name in seen if "." not in name}


NAMES = st.sampled_from(sorted(names_of(Call.DESCRIPTOR, set())))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=9)
    | st.sampled_from(["GET_HEALTH", "MESOS", "Infinity", "NaN", "1e999", "true", "AAAA", "\ud800"])
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))
CALLS = st.dictionaries(st.sampled_from([field.name for field in Call.DESCRIPTOR.fields]), VALUES, max_size=3)


@given(CALLS)
def test_whatever_is_sent_is_a_call_or_a_value_error(value: dict[str, Any]) -> None:
    found = outcome(from_json, value)
    assert "\n" not in found if isinstance(found, str) else from_json(to_json(found), Call) == found


def test_the_call_of_these_tests_is_one() -> None:
    assert from_json(loads(json.dumps(LAUNCH).encode()), Call).launch_container.limits["cpus"].value == 1.0


# Any message.


NUMBERS = {
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
}


def values_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    if field.enum_type is not None:
        return st.sampled_from([value.name for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=5).map(lambda data: base64.b64encode(data).decode())
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    return NUMBERS.get(field.type, st.text(max_size=5)).map(
        lambda value: {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, value)
    )


def messages(descriptor: Descriptor, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    required, optional = {}, {}
    for field in descriptor.fields:
        if field.is_required:
            required[field.name] = values_of(field, depth)
        elif depth > 0 and field.containing_oneof is None:
            entry = field.message_type
            if entry is not None and entry.GetOptions().map_entry:
                value = values_of(entry.fields_by_name["value"], depth)
                optional[field.name] = st.dictionaries(st.text(max_size=3), value, max_size=2)
            elif field.is_repeated:
                optional[field.name] = st.lists(values_of(field, depth), max_size=2)
            else:
                optional[field.name] = values_of(field, depth)
    return st.fixed_dictionaries(required, optional=optional)


@pytest.mark.parametrize("kind", [v1.ContainerInfo, v1.CommandInfo, v1.Resource, v1.TaskStatus, Call.LaunchContainer])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_message_comes_back(kind: type[Message], data: st.DataObject) -> None:
    value = data.draw(messages(kind.DESCRIPTOR, 3))
    message = from_json(value, kind)
    written = to_json(message)
    assert from_json(loads(json.dumps(written).encode()), kind) == from_json(written, kind)
    again = from_bytes(message.SerializeToString(), kind)
    assert to_json(again) == written


# Protobuf.


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x7f", b"\xff" * 20, b"\x0b", b"\x12\x00" * 3])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^Failed to parse body into a protobuf object"):
        from_bytes(data, v1.ContainerID)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (v1.ContainerID(value="xyz"), "ContainerID.value"),
        (v1.ContainerID(value="a", parent=v1.ContainerID(value="xyz")), "ContainerID.value"),
        (v1.CommandInfo(arguments=["a", "xyz"]), "CommandInfo.arguments"),
        (v1.Labels(labels=[v1.Label(key="xyz")]), "Label.key"),
        (v1.OfferFilters.ResourceQuantities(quantities={"xyz": v1.Value.Scalar(value=1)}), "quantities"),
        (Call.LaunchContainer(limits={"xyz": v1.Value.Scalar(value=1)}), "limits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_text_that_is_no_text(message: Message, field: str) -> None:
    data = message.SerializePartialToString().replace(b"xyz", b"\xff\xfe\xfd")
    with pytest.raises(ValueError, match=f"^Failed to parse body into a protobuf object: mesos.*{field} is not UTF-8$"):
        from_bytes(data, type(message))


def test_bytes_are_not_text() -> None:
    message = v1.UUID(value=b"\xff\xfe")
    assert from_bytes(message.SerializeToString(), v1.UUID) == message


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    found = outcome(from_bytes, data)
    if isinstance(found, str):
        assert found.startswith("Failed to parse body into a protobuf object")
    else:
        json.dumps(to_json(found))
