"""From what a client asks for to what the containerizer is told, and back."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.api import convert, v1
from mesocosm.api.binary import from_bytes
from mesocosm.api.json import from_json, to_json
from mesocosm.api.v1.agent import Call
from mesocosm.container import (
    URI,
    CommandInfo,
    ContainerClass,
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    ContainerType,
    DiskSource,
    DiskType,
    DockerVolume,
    ImageRequest,
    ImageVolume,
    IpcMode,
    LinuxInfo,
    MountPropagation,
    PersistentVolume,
    Resources,
    RLimit,
    SandboxOf,
    SandboxPath,
    SeccompInfo,
    Termination,
    TTYInfo,
    Volume,
    VolumeMode,
)
from mesocosm.docker.info import DockerInfo, DockerNetwork
from mesocosm.errors import ContainerError
from mesocosm.linux import capabilities, rlimits
from mesocosm.networks import IPAddress, Label, NetworkInfo, PortMapping
from mesocosm.secrets import Hidden, Secret, SecretReference
from mesocosm.statistics import BlkioStatistics, DiskStatistics, PerfStatistics, ResourceStatistics
from tests.unit import recorded

MB = 1 << 20
CPUS = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}
MEM = {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}
VOLUME: dict[str, Any] = {
    **MEM,
    "name": "disk",
    "reservations": [{"type": "STATIC", "role": "eng"}, {"type": "DYNAMIC", "role": "eng/web"}],
    "disk": {
        "persistence": {"id": "id1", "principal": "me"},
        "volume": {"container_path": "data", "mode": "RO"},
    },
}
DISKS = "resources: of the resource 'disk',"
HOST_TO_CONTAINER = MountPropagation.HOST_TO_CONTAINER


def launched(**fields: Any) -> ContainerConfig:
    """What becomes of a launch of a standalone container."""
    return convert.container_config(from_json({"container_id": {"value": "top"}, **fields}, Call.LaunchContainer))


def contained(**fields: Any) -> ContainerConfig:
    """What becomes of a ContainerInfo."""
    return launched(container={"type": "MESOS", **fields})


def volume(**fields: Any) -> Volume:
    """What becomes of one volume."""
    (found,) = contained(volumes=[{"mode": "RW", "container_path": "/data", **fields}]).volumes
    return found


def source(kind: str, **fields: Any) -> dict[str, Any]:
    return {"source": {"type": kind, kind.lower(): fields}}


# Names.


def test_names_go_both_ways() -> None:
    message = from_json({"value": "c", "parent": {"value": "b", "parent": {"value": "a"}}}, v1.ContainerID)
    assert convert.container_id(message) == ContainerID.parse("a.b.c")
    assert convert.container_id_message(ContainerID.parse("a.b.c")) == message


def test_names_that_only_mesos_has() -> None:
    with pytest.raises(ContainerError, match="is not a name"):
        convert.container_id(v1.ContainerID(value="caf\u00e9"))


# Launches.


def test_a_launch_that_asks_for_nothing() -> None:
    assert launched() == ContainerConfig(CommandInfo())


def test_a_launch() -> None:
    config = launched(
        command={
            "value": "/bin/echo",
            "shell": False,
            "arguments": ["echo", "hi"],
            "user": "nobody",
            "environment": {"variables": [{"name": "A", "value": "1"}, {"name": "A", "value": "2", "type": "VALUE"}]},
            "uris": [{"value": "http://a/b"}, {"value": "c", "executable": True, "extract": False, "output_file": "d"}],
        },
        resources=[CPUS, CPUS, MEM, {"name": "disk", "type": "SCALAR", "scalar": {"value": 9}}],
        limits={"cpus": {"value": 2}, "mem": {"value": 128.5}},
        container={
            "type": "MESOS",
            "volumes": [{"mode": "RO", "container_path": "data", "host_path": "/srv"}],
            "linux_info": {"share_pid_namespace": True, "ipc_mode": "PRIVATE", "shm_size": 8, "share_cgroups": False},
            "tty_info": {"window_size": {"rows": 40, "columns": 132}},
        },
    )
    uris = (URI("http://a/b"), URI("c", executable=True, extract=False, output_file="d"))
    assert config == ContainerConfig(
        CommandInfo("/bin/echo", ("echo", "hi"), shell=False, uris=uris),
        user="nobody",
        environment={"A": "2"},
        volumes=(Volume("data", "/srv", VolumeMode.RO, HOST_TO_CONTAINER),),
        linux_info=LinuxInfo(share_pid_namespace=True, ipc_mode=IpcMode.PRIVATE, shm_size=8 * MB, share_cgroups=False),
        resources=Resources(cpus=1.0, mem=64 * MB, disk=9 * MB),
        limits=Resources(cpus=2.0, mem=257 * MB // 2),
        tty_info=TTYInfo(40, 132),
    )


def test_nested_launches_and_sessions() -> None:
    fields = {"container_id": {"value": "a"}, "command": {"value": "true"}, "container": {"type": "MESOS"}}
    nested = convert.container_config(from_json(fields, Call.LaunchNestedContainer))
    assert nested == ContainerConfig(CommandInfo("true"))
    session = convert.container_config(from_json(fields, Call.LaunchNestedContainerSession))
    assert session == ContainerConfig(CommandInfo("true"), container_class=ContainerClass.DEBUG)


def test_users_that_are_not_switched_to() -> None:
    launch = from_json({"container_id": {"value": "a"}, "command": {"user": "nobody"}}, Call.LaunchContainer)
    assert convert.container_config(launch, switch_user=False).user is None
    assert launched(command={"user": ""}).user is None


def test_a_default_for_containers_that_ask_for_none() -> None:
    launch = Call.LaunchContainer(container_id=v1.ContainerID(value="a"))
    default = from_json({"type": "MESOS", "linux_info": {"share_pid_namespace": True}}, v1.ContainerInfo)
    assert convert.container_config(launch, default).linux_info.share_pid_namespace
    launch.container.type = v1.ContainerInfo.MESOS
    assert not convert.container_config(launch, default).linux_info.share_pid_namespace


def test_containers_of_docker() -> None:
    docker = {
        "image": "alpine",
        "network": "BRIDGE",
        "port_mappings": [
            {"host_port": 31000, "container_port": 80},
            {"host_port": 31001, "container_port": 53, "protocol": "udp"},
        ],
        "privileged": True,
        "parameters": [{"key": "env", "value": "A=1"}, {"key": "env", "value": "B=2"}],
        "force_pull_image": True,
        "volume_driver": "rexray",
    }
    config = launched(
        container={"type": "DOCKER", "docker": docker, "hostname": "h"},
        command={"value": "true", "environment": {"variables": [{"name": "A", "value": "1"}]}},
        resources=[CPUS, MEM],
    )
    assert config == ContainerConfig(
        CommandInfo("true"),
        type=ContainerType.DOCKER,
        environment={"A": "1"},
        resources=Resources(cpus=0.5, mem=64 * MB),
        hostname="h",
        docker=DockerInfo(
            "alpine",
            network=DockerNetwork.BRIDGE,
            port_mappings=(PortMapping(31000, 80), PortMapping(31001, 53, "udp")),
            privileged=True,
            parameters=(("env", "A=1"), ("env", "B=2")),
            force_pull_image=True,
            volume_driver="rexray",
        ),
    )


def in_docker(**fields: Any) -> ContainerConfig:
    """What becomes of a ContainerInfo of the type DOCKER."""
    return launched(container={"type": "DOCKER", "docker": {"image": "alpine"}, **fields})


def test_a_container_of_docker_that_asks_for_nothing() -> None:
    assert in_docker() == ContainerConfig(CommandInfo(), type=ContainerType.DOCKER, docker=DockerInfo("alpine"))


def test_volumes_of_containers_of_docker() -> None:
    at = {"mode": "RO", "container_path": "/data"}
    shared = {"path": "/srv", "mount_propagation": {"mode": "BIDIRECTIONAL"}}
    config = in_docker(
        volumes=[
            {**at, "host_path": "/srv"},
            {**at, "host_path": "cache"},
            {**at, **source("HOST_PATH", **shared)},
            {**at, **source("DOCKER_VOLUME", name="x")},
        ]
    )
    assert config.volumes == (
        Volume("/data", "/srv", VolumeMode.RO),
        Volume("/data", "cache", VolumeMode.RO),
        Volume("/data", "/srv", VolumeMode.RO, MountPropagation.BIDIRECTIONAL),
        Volume("/data", mode=VolumeMode.RO, docker_volume=DockerVolume("local", "x")),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mesos": {}}, "container.mesos"),
        ({"linux_info": {}}, "container.linux_info"),
        ({"rlimit_info": {}}, "container.rlimit_info"),
        ({"tty_info": {}}, "container.tty_info"),
        (
            {"volumes": [{"mode": "RW", "container_path": "/a", "image": {"type": "DOCKER", "docker": {"name": "x"}}}]},
            "container.volumes[0].image",
        ),
        (
            {
                "volumes": [
                    {"mode": "RW", "container_path": "/a", **source("SANDBOX_PATH", type="SELF", path="x")},
                ]
            },
            "container.volumes[0].source.sandbox_path",
        ),
        (
            {
                "volumes": [
                    {
                        "mode": "RW",
                        "container_path": "/a",
                        **source("SECRET", type="VALUE", value={"data": "eA=="}),
                    },
                ]
            },
            "container.volumes[0].source.secret",
        ),
    ],
)
def test_what_containers_of_docker_cannot_have(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ContainerError) as caught:
        in_docker(**fields)
    assert str(caught.value).startswith(f"{expected} is not supported in a container of the type DOCKER; ")


def test_what_is_for_another_containerizer_alone() -> None:
    with pytest.raises(ContainerError, match=r"^container\.docker is not supported in a container of the type MESOS;"):
        contained(docker={"image": "x"})


@pytest.mark.parametrize(
    "fields",
    [
        {"mesos": {}},
        {"network_infos": [{}]},
        {"rlimit_info": {}},
        {"linux_info": {"ipc_mode": "UNKNOWN"}},
    ],
)
def test_fields_that_ask_for_nothing(fields: dict[str, Any]) -> None:
    assert contained(**fields) == ContainerConfig(CommandInfo())


def test_capabilities() -> None:
    info = contained(
        linux_info={
            "effective_capabilities": {"capabilities": ["NET_RAW", "CHECKPOINT_RESTORE"]},
            "bounding_capabilities": {},
        }
    ).linux_info
    assert info.effective_capabilities == ("NET_RAW", "CHECKPOINT_RESTORE")
    assert info.bounding_capabilities == (), "none at all"
    old = contained(linux_info={"capability_info": {"capabilities": ["CHOWN"]}}).linux_info
    assert (old.effective_capabilities, old.bounding_capabilities) == (("CHOWN",), None)


def test_every_capability_of_mesos_has_its_name() -> None:
    names = [name for name in v1.CapabilityInfo.Capability.DESCRIPTOR.values_by_name if name != "UNKNOWN"]
    assert tuple(names) == capabilities.NAMES


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"linux_info": {"capability_info": {}, "effective_capabilities": {}}},
            "container.linux_info has both capability_info and effective_capabilities; leave out capability_info",
        ),
        (
            {"linux_info": {"bounding_capabilities": {"capabilities": ["UNKNOWN"]}}},
            "container.linux_info.bounding_capabilities: UNKNOWN is no capability; leave it out",
        ),
        (
            {"rlimit_info": {"rlimits": [{"soft": 1, "hard": 1}]}},
            "container.rlimit_info.rlimits[0] has no type; write one, such as RLMT_NOFILE",
        ),
    ],
)
def test_confinements_that_are_none(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ContainerError) as caught:
        contained(**fields)
    assert str(caught.value) == text


def test_seccomp() -> None:
    assert contained(linux_info={"seccomp": {"profile_name": "x"}}).linux_info.seccomp == SeccompInfo("x")
    assert contained(linux_info={"seccomp": {"unconfined": True}}).linux_info.seccomp == SeccompInfo(unconfined=True)
    assert contained(linux_info={"seccomp": {}}).linux_info.seccomp == SeccompInfo()


def test_rlimits() -> None:
    limits = [{"type": "RLMT_NOFILE", "soft": 0, "hard": 9}, {"type": "RLMT_CORE"}, {"type": "RLMT_AS", "soft": 1}]
    expected = (RLimit("NOFILE", 0, 9), RLimit("CORE"), RLimit("AS", soft=1))
    assert contained(rlimit_info={"rlimits": limits}).rlimits == expected


def test_every_limit_of_mesos_has_its_name() -> None:
    names = {
        name.removeprefix("RLMT_") for name in v1.RLimitInfo.RLimit.Type.DESCRIPTOR.values_by_name if name != "UNKNOWN"
    }
    assert names == set(rlimits.NAMES)


def test_networks_go_both_ways() -> None:
    fields = {
        "name": "blue",
        "ip_addresses": [{"protocol": "IPv6", "ip_address": "fd00::1"}, {"protocol": "IPv4"}],
        "groups": ["a"],
        "labels": {"labels": [{"key": "k", "value": "v"}, {"key": "l"}]},
        "port_mappings": [{"host_port": 8080, "container_port": 80, "protocol": "tcp"}],
    }
    config = contained(network_infos=[fields, {"ip_addresses": [{}]}], hostname="h")
    info, host = config.network_infos
    assert info == NetworkInfo(
        "blue",
        (IPAddress("IPv6", "fd00::1"), IPAddress("IPv4")),
        ("a",),
        (Label("k", "v"), Label("l")),
        (PortMapping(8080, 80, "tcp"),),
    )
    assert host == NetworkInfo(None, (IPAddress("IPv4"),))
    assert config.networks == (info,)
    assert config.hostname == "h"
    status = convert.container_status(ContainerStatus(network_infos=(info,)))
    assert to_json(status)["network_infos"] == [fields]


def test_a_limit_of_ports() -> None:
    ended = Termination(9, "REASON_CONTAINER_LIMITATION", "m", "ports", limited_ranges=((1, 2), (7, 7)))
    (resource,) = convert.termination(ended).limitation.resources
    assert [(part.begin, part.end) for part in resource.ranges.range] == [(1, 2), (7, 7)]


def test_terminals() -> None:
    assert contained(tty_info={}).tty_info == TTYInfo()
    with pytest.raises(ContainerError, match=r"^tty_info.window_size: no terminal has 65536 rows and 1 columns; "):
        contained(tty_info={"window_size": {"rows": 65536, "columns": 1}})


def test_secrets_in_the_environment() -> None:
    value = {"type": "SECRET", "name": "A", "secret": {"type": "VALUE", "value": {"data": "eHl6"}}}
    reference = {"type": "REFERENCE", "reference": {"name": "n", "key": "k"}}
    others = [{"type": "SECRET", "name": "B", "secret": reference}, {"name": "C", "value": "open"}]
    config = launched(command={"environment": {"variables": [value, *others]}})
    assert config.secret_environment == {"A": Secret(Hidden(b"xyz")), "B": Secret(reference=SecretReference("n", "k"))}
    assert config.environment == {"C": "open"}
    assert "xyz" not in repr(config)
    again = [value, {"name": "A", "value": "open"}]
    assert launched(command={"environment": {"variables": again}}).secret_environment == {}
    assert launched(command={"environment": {"variables": again[::-1]}}).environment == {}


# Volumes.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host_path": "/x"}, Volume("/data", "/x", propagation=HOST_TO_CONTAINER)),
        ({"host_path": "x", "mode": "RO"}, Volume("/data", "x", VolumeMode.RO)),
        (source("HOST_PATH", path="/x"), Volume("/data", "/x", propagation=HOST_TO_CONTAINER)),
        (
            source("HOST_PATH", path="/x", mount_propagation={"mode": "BIDIRECTIONAL"}),
            Volume("/data", "/x", propagation=MountPropagation.BIDIRECTIONAL),
        ),
        (
            source("HOST_PATH", path="/x", mount_propagation={"mode": "HOST_TO_CONTAINER"}),
            Volume("/data", "/x", propagation=HOST_TO_CONTAINER),
        ),
        (
            source("SECRET", type="VALUE", value={"data": "eHl6"}),
            Volume("/data", secret=Secret(Hidden(b"xyz"))),
        ),
        (source("SANDBOX_PATH", type="SELF", path="x"), Volume("/data", sandbox_path=SandboxPath("x"))),
        (
            source("SANDBOX_PATH", type="PARENT", path="x"),
            Volume("/data", sandbox_path=SandboxPath("x", SandboxOf.PARENT)),
        ),
    ],
)
def test_volumes(fields: dict[str, Any], expected: Volume) -> None:
    assert volume(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (source("HOST_PATH", path="x"), "container.volumes[0]: Path 'x' in HOST_PATH volume is not absolute"),
        (
            source("SANDBOX_PATH", type="SELF", path="/x"),
            "container.volumes[0]: Path '/x' in SANDBOX_PATH volume is absolute",
        ),
        (source("SANDBOX_PATH", path="x"), "container.volumes[0]: Unknown SANDBOX_PATH volume type; "),
        (
            source("SECRET", type="VALUE"),
            "container.volumes[0]: Invalid secret specified in volume: Secret of type VALUE must have the 'value'",
        ),
        (
            source("DOCKER_VOLUME", name="x"),
            "container.volumes[0]: The volume driver is not specified for volume 'x'",
        ),
        (source("CSI_VOLUME", plugin_name="x"), "container.volumes[0].source.csi_volume is not supported"),
    ],
)
def test_volumes_that_nothing_serves(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ContainerError) as caught:
        volume(**fields)
    assert str(caught.value).startswith(expected)


def test_docker_volumes() -> None:
    options = {"parameter": [{"key": "size", "value": "1G"}, {"key": "type", "value": "ssd"}]}
    found = volume(**source("DOCKER_VOLUME", driver="rexray", name="x", driver_options=options))
    assert found.docker_volume == DockerVolume("rexray", "x", {"size": "1G", "type": "ssd"})


# Resources.


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([], Resources()),
        ([{**CPUS, "scalar": {"value": 0}}], Resources()),
        ([{**CPUS, "scalar": {"value": 0.1}}, {**CPUS, "scalar": {"value": 0.2}}], Resources(cpus=0.3)),
        ([{**MEM, "scalar": {"value": 0.5}}], Resources(mem=MB // 2)),
        ([{**CPUS, "scalar": {"value": 2}, "revocable": {}}], Resources(cpus=2, cpus_revocable=True)),
        ([{"name": "gpus", "type": "SCALAR", "scalar": {"value": 1}}], Resources()),
        ([{**MEM, "name": "disk"}, VOLUME, {**MEM, "name": "disk"}], Resources(disk=128 * MB)),
        (
            [{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}}],
            Resources(ports=((1, 2),)),
        ),
    ],
)
def test_requests(resources: list[dict[str, Any]], expected: Resources) -> None:
    assert launched(resources=resources).resources == expected


def test_persistent_volumes() -> None:
    assert launched(resources=[VOLUME]).persistent_volumes == (
        PersistentVolume("id1", "eng/web", 64 * MB, "data", VolumeMode.RO, "me"),
    )


def test_persistent_volumes_of_named_disks() -> None:
    """What is shared counts once in one place; space on a disk that is no volume is nothing that a container sees."""
    shared = {**VOLUME, "shared": {}}
    source = {"type": "MOUNT", "mount": {"root": "/mnt"}}
    named = {**VOLUME, "disk": {**VOLUME["disk"], "source": source}}
    plain = {**VOLUME, "disk": {"source": source}}
    first, second = launched(resources=[shared, shared, named, plain]).persistent_volumes
    assert (first.shared, first.source) == (True, None)
    assert (second.shared, second.source) == (False, DiskSource(DiskType.MOUNT, "/mnt"))


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({**CPUS, "scalar": {"value": 1e300}}, "resources: 1e+300 is no amount of 'cpus'"),
        ({**CPUS, "scalar": {"value": -1}}, "resources: -1 is no amount of 'cpus'"),
        ({**MEM, "scalar": {"value": "Infinity"}}, "resources: inf is no amount of 'mem'"),
        ({**MEM, "revocable": {}}, "resources: 'mem' is revocable, which only 'cpus' can be"),
        ({**CPUS, "name": "disk", "disk": {}}, f"{DISKS} only persistent volumes can be had in a container"),
        (
            {**VOLUME, "disk": {**VOLUME["disk"], "source": {"type": "MOUNT"}}},
            "resources: a disk of the type MOUNT has no root; say where it is in mount",
        ),
        (
            {**VOLUME, "disk": {**VOLUME["disk"], "source": {"type": "RAW"}}},
            "resources: a disk of the type RAW is not supported; use PATH or MOUNT",
        ),
        (
            {**VOLUME, "disk": {"persistence": {"id": "id1"}}},
            "resources: the persistent volume 'id1' has no container_path",
        ),
        (
            {**VOLUME, "disk": {**VOLUME["disk"], "persistence": {"id": ".."}}},
            "persistent volume '..': '..' is not a name",
        ),
    ],
)
def test_requests_that_are_refused(resource: dict[str, Any], expected: str) -> None:
    with pytest.raises(ContainerError) as caught:
        launched(resources=[resource])
    assert str(caught.value) == expected


def test_limits_may_be_infinite() -> None:
    limits = launched(limits={"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}}).limits
    assert (limits.cpus, limits.mem) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("disk", 1, "limits: 'disk' is not supported; limit cpus and mem"),
        ("cpus", 0, "limits: 0 is no amount of 'cpus'"),
        ("mem", -1, "limits: -1 is no amount of 'mem'"),
        ("mem", "-Infinity", "limits: -inf is no amount of 'mem'"),
        ("mem", 1e13, "limits: 1e+13 is no amount of 'mem'"),
    ],
)
def test_limits_that_are_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(ContainerError) as caught:
        launched(limits={name: {"value": value}})
    assert str(caught.value) == expected


@given(st.floats(), st.sampled_from(["cpus", "mem"]))
def test_any_amount(value: float, name: str) -> None:
    resource = v1.Resource(name=name, type="SCALAR", scalar=v1.Value.Scalar(value=value))
    for read, message in ((convert.resources, [resource]), (convert.limits, {name: resource.scalar})):
        try:
            amount = getattr(read(message), name)  # type: ignore[operator]
        except ContainerError:
            continue
        assert amount is None or 0 <= amount < 1 << 61 or (amount == math.inf and read is convert.limits)


# Hostile launches.


@given(st.binary(max_size=80))
def test_any_launch(data: bytes) -> None:
    identity = v1.ContainerID(value="a")
    prefix = Call.LaunchContainer(container_id=identity).SerializeToString()
    try:
        launch = from_bytes(prefix + data, Call.LaunchContainer)
    except ValueError:
        return
    try:
        convert.container_config(launch)
    except ContainerError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right.


# Back.


def test_the_recorded_end_of_a_container() -> None:
    assert to_json(convert.termination(Termination(768))) == recorded.answers()["wait_container"]["wait_container"]


@pytest.mark.parametrize(
    ("termination", "expected"),
    [
        (Termination(None), {}),
        (Termination(9), {"exit_status": 9}),
        (Termination(None, message="gone"), {"message": "gone"}),
        (Termination(0, message="bad \udcff name"), {"exit_status": 0, "message": "bad \\udcff name"}),
        (
            Termination(None, "REASON_CONTAINER_LAUNCH_FAILED", "why"),
            {"state": "TASK_FAILED", "reason": "REASON_CONTAINER_LAUNCH_FAILED", "message": "why"},
        ),
        (
            Termination(9, "REASON_OF_ANOTHER", "why", "fish"),
            {
                "exit_status": 9,
                "state": "TASK_FAILED",
                "reason": "REASON_CONTAINER_LIMITATION",
                "limitation": {"resources": [{"name": "fish", "type": "SCALAR", "scalar": {"value": 0.0}}]},
                "message": "why",
            },
        ),
        (
            Termination(
                9,
                "REASON_CONTAINER_LIMITATION_MEMORY",
                limited_resource="mem",
                usage=ResourceStatistics(mem_maximum_bytes=96 * MB),
            ),
            {
                "exit_status": 9,
                "state": "TASK_FAILED",
                "reason": "REASON_CONTAINER_LIMITATION_MEMORY",
                "limitation": {"resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 96.0}}]},
            },
        ),
    ],
)
def test_terminations(termination: Termination, expected: dict[str, Any]) -> None:
    assert to_json(convert.termination(termination)) == expected


def test_statuses() -> None:
    status = ContainerStatus(ContainerID.parse("a.b"), 42)
    expected = {"container_id": {"value": "b", "parent": {"value": "a"}}, "executor_pid": 42}
    assert to_json(convert.container_status(status)) == expected
    assert to_json(convert.container_status(ContainerStatus())) == {}


def test_the_recorded_statistics() -> None:
    for container in recorded.answers()["GET_CONTAINERS"]["get_containers"]["containers"]:
        statistics = container["resource_statistics"]
        assert to_json(convert.resource_statistics(ResourceStatistics(**statistics))) == statistics


def test_all_statistics_but_one_are_those_of_mesos() -> None:
    amounts: dict[str, Any] = {field.name: 1 for field in fields(ResourceStatistics)}
    amounts["disk_statistics"] = (DiskStatistics("id1", "me", 2, 1), DiskStatistics(limit_bytes=2))
    amounts["blkio_statistics"] = (BlkioStatistics(None, {"TOTAL": 1}, {"TOTAL": 2}),)
    amounts["perf"] = PerfStatistics(1.0, 2.0, {})
    found = to_json(convert.resource_statistics(ResourceStatistics(**amounts)))
    assert found["disk_statistics"] == [
        {"persistence": {"id": "id1", "principal": "me"}, "limit_bytes": 2, "used_bytes": 1},
        {"limit_bytes": 2},
    ]
    assert {field.name for field in fields(ResourceStatistics)} - found.keys() == {"mem_maximum_bytes"}


def test_statistics_of_an_unknown_time() -> None:
    assert to_json(convert.resource_statistics(ResourceStatistics(processes=1))) == {"timestamp": 0.0, "processes": 1}


def test_images() -> None:
    own = {"type": "DOCKER", "docker": {"name": "debian:12"}, "cached": False}
    tools = {"type": "DOCKER", "docker": {"name": "tools", "config": {"type": "VALUE", "value": {"data": "e30="}}}}
    config = launched(
        container={
            "type": "MESOS",
            "mesos": {"image": own},
            "volumes": [
                {"mode": "RO", "container_path": "/tools", "image": tools},
                {"mode": "RW", "container_path": "/x", "host_path": "/y"},
            ],
        }
    )
    assert config.image == ImageRequest("debian:12", cached=False)
    secret = Secret(Hidden(b"{}"))
    assert config.image_volumes == (ImageVolume("/tools", ImageRequest("tools", credentials=secret), VolumeMode.RO),)
    assert [volume.container_path for volume in config.volumes] == ["/x"]
    assert config.without_secrets().image_volumes[0].image.credentials is None
    credentials = {"type": "REFERENCE", "reference": {"name": "vault", "key": "k"}}
    own["docker"] = {"name": "x", "config": credentials}
    config = launched(container={"type": "MESOS", "mesos": {"image": own}})
    secret = Secret(reference=SecretReference("vault", "k"))
    assert config.image == ImageRequest("x", cached=False, credentials=secret)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"type": "APPC", "appc": {"name": "x"}}, "no provider appc"),
        ({"type": "DOCKER"}, "'docker.name' is not set"),
        ({"type": "DOCKER", "docker": {"name": "x", "credential": {"principal": "p"}}}, "docker.credential"),
        (
            {"type": "DOCKER", "docker": {"name": "x", "config": {"type": "REFERENCE"}}},
            "docker.config: Secret of type REFERENCE must have the 'reference' field set",
        ),
    ],
)
def test_images_that_cannot_be_had(image: dict[str, object], reason: str) -> None:
    volume = {"mode": "RO", "container_path": "/x", "image": image}
    for container in ({"mesos": {"image": image}}, {"volumes": [volume]}):
        with pytest.raises(ContainerError, match=reason):
            launched(container={"type": "MESOS", **container})


def test_statistics_of_block_devices_and_events() -> None:
    message = convert.resource_statistics(
        ResourceStatistics(
            blkio_statistics=(
                BlkioStatistics((7, 0), {"READ": 1, "TOTAL": 1}, {"READ": 4096, "TOTAL": 4096}),
                BlkioStatistics(None, {"TOTAL": 1}, {"TOTAL": 4096}),
            ),
            perf=PerfStatistics(5.0, 0.5, {"page_faults": 3, "task_clock": 1.5}),
        )
    )
    device, total = message.blkio_statistics.throttling
    assert (device.device.major_number, device.device.minor_number) == (7, 0)
    assert [(value.op, value.value) for value in device.io_service_bytes] == [
        (v1.CgroupInfo.Blkio.READ, 4096),
        (v1.CgroupInfo.Blkio.TOTAL, 4096),
    ]
    assert not total.HasField("device")
    assert (message.perf.timestamp, message.perf.duration) == (5.0, 0.5)
    assert (message.perf.page_faults, message.perf.task_clock) == (3, 1.5)


def test_the_class_of_packets() -> None:
    message = convert.container_status(ContainerStatus(net_cls_classid=0xAAAABBBB))
    assert message.cgroup_info.net_cls.classid == 0xAAAABBBB
    assert not convert.container_status(ContainerStatus()).HasField("cgroup_info")
