"""Why calls are refused, in the words of Mesos."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.api import v1
from mesocosm.api.json import from_json
from mesocosm.api.resources import validate_role
from mesocosm.api.v1.agent import Call
from mesocosm.api.validation import validate, validate_container_id
from tests.unit import recorded

KID = {"value": "kid", "parent": {"value": "top"}}
DEEP = {"value": "kid", "parent": KID}
CPUS = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}
VOLUME = {"mode": "RW", "container_path": "data"}
ALONE = {"type": "MESOS", "linux_info": {"share_cgroups": False}}
SHARED = {"type": "MESOS", "linux_info": {"share_cgroups": True}}
PLAIN = (
    "UNKNOWN GET_HEALTH GET_FLAGS GET_VERSION GET_LOGGING_LEVEL GET_STATE GET_CONTAINERS GET_FRAMEWORKS GET_EXECUTORS"
    " GET_OPERATIONS GET_TASKS GET_AGENT GET_RESOURCE_PROVIDERS PRUNE_IMAGES"
)


def reason(kind: str, parameters: dict[str, Any] | None) -> str | None:
    return validate(from_json({"type": kind, kind.lower(): parameters}, Call))


def launch(**fields: Any) -> str | None:
    """Why a launch of a standalone container is refused."""
    return reason("LAUNCH_CONTAINER", {"container_id": {"value": "top"}, **fields})


def resource(**fields: Any) -> str | None:
    """What is wrong with one resource of a nested container."""
    found = launch(container_id=KID, resources=[CPUS, {**CPUS, **fields}])
    return None if found is None else found.removeprefix("Invalid resources: Resource ").partition(" is invalid: ")[2]


def disk_of(**source: Any) -> dict[str, Any]:
    return {"name": "disk", "disk": {"source": source}}


# Which calls there are.


def test_the_recorded_refusal() -> None:
    text = f"Failed to validate agent::Call: {validate(Call(type=Call.GET_METRICS))}"
    assert text.encode() == recorded.body("GET_METRICS").rstrip()


def test_a_call_of_no_type() -> None:
    assert validate(Call()) == "Expecting 'type' to be present"


def test_a_call_that_lacks_fields() -> None:
    call = Call(type=Call.WAIT_CONTAINER, wait_container=Call.WaitContainer())
    assert validate(call) == "Not initialized: wait_container.container_id"


@pytest.mark.parametrize("kind", PLAIN.split())
def test_calls_without_parameters(kind: str) -> None:
    assert reason(kind, None) is None


@pytest.mark.parametrize("kind", sorted(set(Call.Type.keys()) - set(PLAIN.split())))
def test_calls_with_parameters(kind: str) -> None:
    assert reason(kind, None) == f"Expecting '{kind.lower()}' to be present"


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("GET_METRICS", {}),
        ("SET_LOGGING_LEVEL", {"level": 1, "duration": {"nanoseconds": 1}}),
        ("LIST_FILES", {"path": ""}),
        ("READ_FILE", {"path": "", "offset": 0}),
        ("LAUNCH_NESTED_CONTAINER", {"container_id": KID}),
        ("LAUNCH_NESTED_CONTAINER", {"container_id": DEEP, "container": SHARED}),
        ("LAUNCH_NESTED_CONTAINER", {"container_id": KID, "container": ALONE}),
        ("LAUNCH_NESTED_CONTAINER_SESSION", {"container_id": DEEP, "container": SHARED}),
        ("WAIT_CONTAINER", {"container_id": {"value": "top"}}),
        ("KILL_CONTAINER", {"container_id": KID, "signal": 15}),
        ("REMOVE_CONTAINER", {"container_id": KID}),
        ("ATTACH_CONTAINER_OUTPUT", {"container_id": KID}),
        ("ATTACH_CONTAINER_INPUT", {"type": "CONTAINER_ID", "container_id": KID}),
        ("ATTACH_CONTAINER_INPUT", {"type": "PROCESS_IO"}),
        ("LAUNCH_CONTAINER", {"container_id": {"value": "top"}, "resources": [CPUS], "container": ALONE}),
        ("LAUNCH_CONTAINER", {"container_id": KID, "resources": [CPUS], "limits": {"cpus": {"value": 1}}}),
        ("LAUNCH_CONTAINER", {"container_id": DEEP, "container": SHARED}),
        ("LAUNCH_CONTAINER", {"container_id": DEEP}),
        ("ADD_RESOURCE_PROVIDER_CONFIG", {"info": {"type": "t", "name": "n"}}),
        ("REMOVE_RESOURCE_PROVIDER_CONFIG", {"type": "t", "name": "n"}),
    ],
)
def test_what_is_valid(kind: str, parameters: dict[str, Any]) -> None:
    assert reason(kind, parameters) is None


# Containers.


@pytest.mark.parametrize("kind", ["LAUNCH", "WAIT", "KILL", "REMOVE"])
def test_calls_of_nested_containers_need_a_parent(kind: str) -> None:
    field = f"{kind.lower()}_nested_container"
    expected = f"Expecting '{field}.container_id.parent' to be present"
    assert reason(f"{kind}_NESTED_CONTAINER", {"container_id": {"value": "top"}}) == expected


def test_a_session_needs_a_parent() -> None:
    expected = "Expecting 'launch_nested_container_session.container_id.parent' to be present"
    assert reason("LAUNCH_NESTED_CONTAINER_SESSION", {"container_id": {"value": "top"}}) == expected


@pytest.mark.parametrize(
    "kind",
    [
        "ATTACH_CONTAINER_OUTPUT",
        "KILL_CONTAINER",
        "LAUNCH_CONTAINER",
        "LAUNCH_NESTED_CONTAINER",
        "LAUNCH_NESTED_CONTAINER_SESSION",
        "REMOVE_NESTED_CONTAINER",
        "WAIT_CONTAINER",
    ],
)
def test_every_call_wants_a_name(kind: str) -> None:
    expected = f"'{kind.lower()}.container_id' is invalid: 'ContainerID.parent' is invalid: ID must not be empty"
    assert reason(kind, {"container_id": {"value": "a", "parent": {"value": ""}}}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "ID must not be empty"),
        ("x" * 256, "ID must not be greater than 255 characters"),
        ("\u00e9" * 128, "ID must not be greater than 255 characters"),
        (".", "'.' is disallowed"),
        ("..", "'..' is disallowed"),
        ("a/b", "'a/b' contains invalid characters"),
        ("a\\b", "'a\\\\b' contains invalid characters"),
        ("a\n", "'a\\n' contains invalid characters"),
        ("a\x7f", "'a\\x7f' contains invalid characters"),
        ("a.b", "'ContainerID.value' 'a.b' contains invalid characters"),
        ("a b", "'ContainerID.value' 'a b' contains invalid characters"),
        ("x" * 243, f"'ContainerID.value' '{'x' * 243}' exceeds the maximum length (242)"),
        ("x" * 242, None),
        ("a:b@c+d", None),
    ],
)
def test_names(value: str, expected: str | None) -> None:
    assert validate_container_id(v1.ContainerID(value=value)) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "Expecting 'attach_container_input.type' to be present"),
        ({"type": "UNKNOWN"}, "'attach_container_input.type' is unknown"),
        ({"type": "CONTAINER_ID"}, "'attach_container_input.container_id' is invalid: ID must not be empty"),
    ],
)
def test_input(parameters: dict[str, Any], expected: str) -> None:
    assert reason("ATTACH_CONTAINER_INPUT", parameters) == expected


def test_providers_have_no_id_yet() -> None:
    info = {"type": "t", "name": "n", "id": {"value": "x"}}
    for kind in ("ADD", "UPDATE"):
        expected = f"Expecting '{kind.lower()}_resource_provider_config.info.id' to be unset"
        assert reason(f"{kind}_RESOURCE_PROVIDER_CONFIG", {"info": info}) == expected


# Launches.


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        (
            "LAUNCH_NESTED_CONTAINER",
            {"container_id": DEEP, "container": ALONE},
            "'launch_nested_container' is invalid: containers nested at the second level or greater cannot set"
            " 'share_cgroups' to 'false'",
        ),
        (
            "LAUNCH_NESTED_CONTAINER_SESSION",
            {"container_id": KID, "container": ALONE},
            "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to"
            " 'false' for nested container sessions",
        ),
        (
            "LAUNCH_CONTAINER",
            {"container_id": DEEP, "container": ALONE},
            "'launch_container' is invalid: containers nested at the second level or greater cannot set"
            " 'share_cgroups' to 'false'",
        ),
        (
            "LAUNCH_CONTAINER",
            {"container_id": DEEP, "resources": [CPUS]},
            "'launch_container' is invalid: containers nested at the second level or greater cannot specify resources",
        ),
        (
            "LAUNCH_CONTAINER",
            {"container_id": DEEP, "limits": {"cpus": {"value": 1}}},
            "'launch_container' is invalid: containers nested at the second level or greater cannot specify resource"
            " limits",
        ),
        (
            "LAUNCH_CONTAINER",
            {"container_id": {"value": "top"}, "container": SHARED},
            "'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'",
        ),
    ],
)
def test_shared_cgroups(kind: str, fields: dict[str, Any], expected: str) -> None:
    assert reason(kind, fields) == expected


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ({"value": "x"}, None),
        ({"type": "VALUE", "value": ""}, None),
        ({"type": "UNKNOWN"}, "Environment variable of type 'UNKNOWN' is not allowed"),
        ({}, "Environment variable 'A' of type 'VALUE' must have a value set"),
        ({"value": "x", "secret": {}}, "Environment variable 'A' of type 'VALUE' must not have a secret set"),
        ({"type": "SECRET"}, "Environment variable 'A' of type 'SECRET' must have a secret set"),
        (
            {"type": "SECRET", "secret": {}, "value": "x"},
            "Environment variable 'A' of type 'SECRET' must not have a value set",
        ),
        (
            {"type": "SECRET", "secret": {"type": "REFERENCE"}},
            "Environment variable 'A' specifies an invalid secret: Secret of type REFERENCE must have the 'reference'"
            " field set",
        ),
        (
            {"type": "SECRET", "secret": {"type": "REFERENCE", "reference": {"name": "r"}, "value": {"data": ""}}},
            "Environment variable 'A' specifies an invalid secret: Secret 'r' of type REFERENCE must not have the"
            " 'value' field set",
        ),
        (
            {"type": "SECRET", "secret": {"type": "VALUE"}},
            "Environment variable 'A' specifies an invalid secret: Secret of type VALUE must have the 'value' field"
            " set",
        ),
        (
            {"type": "SECRET", "secret": {"type": "VALUE", "reference": {"name": "r"}, "value": {"data": ""}}},
            "Environment variable 'A' specifies an invalid secret: Secret of type VALUE must not have the 'reference'"
            " field set",
        ),
        (
            {"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "AA=="}}},
            "Environment variable 'A' specifies a secret containing null bytes, which is not allowed in the"
            " environment",
        ),
        ({"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "YQ=="}}}, None),
    ],
)
def test_environments(variable: dict[str, Any], expected: str | None) -> None:
    command = {"environment": {"variables": [{"name": "A", **variable}]}}
    wanted = None if expected is None else f"'launch_container.command' is invalid: {expected}"
    assert launch(command=command) == wanted


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({"host_path": "/x"}, None),
        ({}, "Only one of them should be set: 'host_path', 'image' and 'source'"),
        ({"host_path": "/x", "source": {}}, "Only one of them should be set: 'host_path', 'image' and 'source'"),
        ({"source": {}}, "'source.type' is unknown"),
        ({"source": {"type": "UNKNOWN"}}, "'source.type' is unknown"),
        ({"source": {"type": "DOCKER_VOLUME"}}, "'source.docker_volume' is not set for DOCKER_VOLUME volume"),
        ({"source": {"type": "HOST_PATH"}}, "'source.host_path' is not set for HOST_PATH volume"),
        ({"source": {"type": "SANDBOX_PATH"}}, "'source.sandbox_path' is not set for SANDBOX_PATH volume"),
        ({"source": {"type": "SECRET"}}, "'source.secret' is not set for SECRET volume"),
        ({"source": {"type": "SECRET", "secret": {}}}, None),
        ({"source": {"type": "CSI_VOLUME"}}, "'source.csi_volume' is not set for CSI volume"),
        (
            {"source": {"type": "CSI_VOLUME", "csi_volume": {"plugin_name": "p"}}},
            "'source.csi_volume.static_provisioning' is not set for CSI volume",
        ),
    ],
)
def test_volumes(volume: dict[str, Any], expected: str | None) -> None:
    container = {"type": "MESOS", "volumes": [{**VOLUME, **volume}]}
    wanted = None if expected is None else f"'launch_container.container' is invalid: Invalid volume: {expected}"
    assert launch(container=container) == wanted


def test_docker() -> None:
    invalid = "'launch_container.container' is invalid: "
    expected = invalid + "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
    assert launch(container={"type": "DOCKER"}) == expected
    docker = {"image": "i", "parameters": [{"key": "name", "value": "x"}]}
    expected = invalid + "Parameter in DockerInfo must not be 'name'"
    assert launch(container={"type": "DOCKER", "docker": docker}) == expected


# Resources.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"role": "eng"}, "'launch_container.resources' must be unreserved"),
        (
            {"reservations": [{"type": "STATIC", "role": "eng"}]},
            "'launch_container.resources' must be unreserved",
        ),
        (
            {"name": "disk", "disk": {"persistence": {"id": "p"}}},
            "'launch_container.resources' may not use persistent volumes",
        ),
        ({"revocable": {}}, "'launch_container.resources' must be non-revocable"),
        (
            {"name": "gpus", "scalar": {"value": 0.5}},
            "Invalid GPU resources: The 'gpus' resource must be an unsigned integer",
        ),
        (
            {"scalar": {"value": -1}},
            "Invalid resources: Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0",
        ),
    ],
)
def test_what_a_standalone_container_may_take(fields: dict[str, Any], expected: str) -> None:
    assert launch(resources=[{**CPUS, **fields}]) == expected


DYNAMIC = {"type": "DYNAMIC", "role": "a"}
SINGLE = "if the single reservation in 'Resource.reservations' is"
MANY = [{"type": "STATIC", "role": "a"}, {"type": "DYNAMIC", "role": "a/b"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": ""}, "Empty resource name"),
        ({"type": "TEXT"}, "Unsupported resource type"),
        ({"scalar": None}, "Invalid scalar resource"),
        ({"ranges": {}}, "Invalid scalar resource"),
        ({"scalar": {"value": 0.0001}}, "Invalid scalar resource: value <= 0"),
        ({"scalar": {"value": "Infinity"}}, "Invalid scalar resource: value is out of range"),
        ({"scalar": {"value": 0}}, None),
        ({"type": "RANGES"}, "Invalid ranges resource"),
        ({"type": "SET", "scalar": None}, "Invalid set resource"),
        ({"type": "SET", "scalar": None, "set": {"item": ["a", "a"]}}, "Invalid set resource: duplicated elements"),
        ({"disk": {}}, "DiskInfo should not be set for 'cpus' resource"),
        (disk_of(type="MOUNT", mount={}), None),
        (disk_of(type="RAW", mount={}), "Mount should not be set for RAW disk source"),
        (disk_of(type="BLOCK", path={}), "Path should not be set for BLOCK disk source"),
        (disk_of(type="BLOCK"), None),
        (disk_of(type="UNKNOWN"), "Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'"),
        ({"shared": {}}, "Resource 'cpus' cannot be shared"),
        ({"name": "disk", "shared": {}}, "Only persistent volumes can be shared"),
        ({"name": "disk", "disk": {"persistence": {"id": "p"}}, "shared": {}}, None),
        ({"role": "/a"}, "Role '/a' cannot start with a slash"),
        ({"role": "a", "reservation": {}}, None),
        (
            {"role": "a", "reservation": {"type": "STATIC"}},
            "'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field",
        ),
        (
            {"role": "a", "reservation": {"role": "a"}},
            "'Resource.ReservationInfo.role' must not be set for the 'Resource.reservation' field",
        ),
        ({"reservation": {}}, 'Invalid reservation: role "*" cannot be dynamically reserved'),
        ({"reservations": [{}]}, "Invalid reservation: 'Resource.ReservationInfo.type' field must be set."),
        (
            {"reservations": [{"type": "STATIC"}]},
            "Invalid reservation: 'Resource.ReservationInfo.role' field must be set.",
        ),
        ({"reservations": [{"type": "STATIC", "role": "a/"}]}, "Role 'a/' cannot end with a slash"),
        ({"reservations": [{"type": "STATIC", "role": "*"}]}, 'Invalid reservation: role "*" cannot be reserved'),
        ({"reservations": [{"type": "UNKNOWN", "role": "a"}]}, "Unsupported 'Resource.ReservationInfo.Type'"),
        ({"reservations": MANY}, None),
        ({"reservations": [DYNAMIC]}, None),
        ({"reservations": [DYNAMIC], "role": "a", "reservation": {}}, None),
        (
            {"reservations": [MANY[1], MANY[0]]},
            "Invalid refined reservation: A refined reservation cannot be STATIC",
        ),
        (
            {"reservations": [MANY[1], DYNAMIC]},
            "Invalid refined reservation: role 'a' is not a refinement of 'a/b'",
        ),
        (
            {"reservations": MANY, "role": "a/b"},
            "Invalid resource format: 'Resource.role' must not be set if there is more than one reservation in"
            " 'Resource.reservations'",
        ),
        (
            {"reservations": MANY, "reservation": {}},
            "Invalid resource format: 'Resource.reservation' must not be set if there is more than one reservation in"
            " 'Resource.reservations'",
        ),
        (
            {"reservations": [DYNAMIC], "role": "b"},
            "Invalid resource format: 'Resource.role' field with 'b' does not match the role 'a' in"
            " 'Resource.reservations'",
        ),
        (
            {"reservations": [MANY[0]], "reservation": {}},
            f"Invalid resource format: 'Resource.reservation' must not be set {SINGLE} STATIC",
        ),
        (
            {"reservations": [DYNAMIC], "role": "a"},
            "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not"
            f" set {SINGLE} DYNAMIC",
        ),
        (
            {"reservations": [DYNAMIC], "role": "a", "reservation": {"principal": "p"}},
            "Invalid resource format: 'Resource.reservation.principal' field does not match the principal in"
            " 'Resource.reservations'",
        ),
    ],
)
def test_resources(fields: dict[str, Any], expected: str | None) -> None:
    assert resource(**fields) == expected


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(1, 2), (5, 9), (3, 4)], None),
        ([(2, 1)], "Invalid ranges resource: begin > end"),
        ([(1, 5), (5, 6)], "Invalid ranges resource: overlapping ranges"),
        ([(4, 5), (1, 9)], "Invalid ranges resource: overlapping ranges"),
    ],
)
def test_ranges(ranges: list[tuple[int, int]], expected: str | None) -> None:
    entries = [{"begin": begin, "end": end} for begin, end in ranges]
    assert resource(name="ports", type="RANGES", scalar=None, ranges={"range": entries}) == expected


def test_the_resource_is_named() -> None:
    ports = {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 2, "end": 1}, {"begin": 7, "end": 9}]}}
    assert str(launch(resources=[ports])).startswith("Invalid resources: Resource 'ports:[2-1, 7-9]' is invalid: ")
    items = {"name": "x", "type": "SET", "set": {"item": ["a", "a"]}}
    assert str(launch(resources=[items])).startswith("Invalid resources: Resource 'x:{a, a}' is invalid: ")


def test_gpus_are_added_up() -> None:
    half = {"name": "gpus", "type": "SCALAR", "scalar": {"value": 0.5}}
    assert launch(resources=[half, half]) is None


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("*", None),
        ("eng/front_end", None),
        ("", "Role names cannot be the empty string"),
        ("/", "Role '/' cannot start with a slash"),
        ("a/", "Role 'a/' cannot end with a slash"),
        ("a//b", "Role 'a//b' cannot contain two adjacent slashes"),
        ("a/.", "Role 'a/.' cannot include '.' as a component"),
        ("..", "Role '..' cannot include '..' as a component"),
        ("a/*", "Role 'a/*' cannot include '*' as a component"),
        ("-a", "Role component '-a' is invalid because it starts with a dash"),
        ("a/b c", "Role component 'b c' is invalid because it contains backspace or whitespace"),
        ("a\n", "Role component 'a\\n' is invalid because it contains backspace or whitespace"),
    ],
)
def test_roles(role: str, expected: str | None) -> None:
    assert validate_role(role) == expected


@given(st.floats(), st.sampled_from(["cpus", "mem", "gpus"]))
def test_any_amount(value: float, name: str) -> None:
    call = Call(type=Call.LAUNCH_CONTAINER)
    call.launch_container.container_id.value = "top"
    call.launch_container.resources.add(name=name, type="SCALAR", scalar=v1.Value.Scalar(value=value))
    assert validate(call) is None or "\n" not in str(validate(call))
