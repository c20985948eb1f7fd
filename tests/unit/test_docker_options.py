"""What `docker create` is told, and what Docker says."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import (
    CommandInfo,
    ContainerConfig,
    ContainerType,
    DockerVolume,
    MountPropagation,
    PersistentVolume,
    Resources,
    TTYInfo,
    Volume,
    VolumeMode,
)
from mesocosm.containerizer.docker_steps import find_credentials
from mesocosm.docker.client import with_tag, write_credentials
from mesocosm.docker.info import DockerInfo, DockerNetwork
from mesocosm.docker.options import DefaultDns, Run, run
from mesocosm.docker.orders import Orders
from mesocosm.docker.values import Container, DockerError, Image
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.networks import NetworkInfo, PortMapping

MB = 1 << 20
SANDBOX, MAPPED = "/sandboxes/one", "/mnt/mesos/sandbox"
OWN = f"--volume={SANDBOX}:{MAPPED}:rw"
FLAGS = Flags(work_dir=Path("/work"))
BRIDGE = DockerInfo("busybox", network=DockerNetwork.BRIDGE)
TRUE = CommandInfo("true")
ALWAYS = {"MESOS_SANDBOX": MAPPED, "MESOS_CONTAINER_NAME": "mesos-one"}


def made(
    docker: DockerInfo | None = None,
    command: CommandInfo = TRUE,
    *,
    flags: Flags = FLAGS,
    dns: Any = None,
    **asked: Any,
) -> Run:
    config = ContainerConfig(command, type=ContainerType.DOCKER, docker=docker or DockerInfo("busybox"), **asked)
    return run("mesos-one", replace(config, directory=Path(SANDBOX)), flags, DefaultDns.parse(dns))


def options(*arguments: Any, **asked: Any) -> tuple[str, ...]:
    """Those between what is always there and the image."""
    given = made(*arguments, **asked).arguments
    assert given[0] == "--name=mesos-one"
    return tuple(each for each in given[1 : given.index("busybox")] if each not in (OWN, "--entrypoint=/bin/sh"))


def test_a_container_that_asks_for_nothing() -> None:
    command = ("--entrypoint=/bin/sh", "busybox", "-c", "true")
    assert made() == Run("mesos-one", ("--name=mesos-one", OWN, "--net=host", *command), ALWAYS)


def test_a_label_of_the_agent_counts_whatever_the_parameters_say() -> None:
    info = DockerInfo("busybox", parameters=(("label", "mesocosm=/other"),))
    config = ContainerConfig(TRUE, type=ContainerType.DOCKER, docker=info, directory=Path(SANDBOX))
    arguments = run("mesos-one", config, FLAGS, DefaultDns(), {"mesocosm": "/own"}).arguments
    labels = [each for each in arguments if each.startswith("--label=")]
    assert labels == ["--label=mesocosm=/other", "--label=mesocosm=/own"]


def test_the_command() -> None:
    """Reference: DockerTest.ROOT_DOCKER_CheckCommandWithShell."""
    with pytest.raises(ContainerError, match="Shell specified but no command value provided"):
        made(command=CommandInfo(shell=True))
    for command, expected in (
        (CommandInfo(shell=False), ()),
        (CommandInfo("echo", shell=False), ("echo",)),
        (CommandInfo("echo", ("a", "b"), shell=False), ("echo", "a", "b")),
        (CommandInfo(None, ("a",), shell=False), ("a",)),
    ):
        assert made(command=command).arguments[3:] == ("busybox", *expected)


def test_variables() -> None:
    assert made(environment={"A": "b", "MESOS_SANDBOX": "/"}).variables == {"A": "b", **ALWAYS}


@pytest.mark.parametrize(
    ("resources", "limits", "bounded", "expected"),
    [
        (Resources(cpus=1.5, mem=64 * MB), Resources(), False, ["--cpu-shares=1536", f"--memory={64 * MB}"]),
        (Resources(cpus=0.001, mem=1), Resources(), False, ["--cpu-shares=2", f"--memory={32 * MB}"]),
        (Resources(cpus=1.5), Resources(), True, ["--cpu-shares=1536", "--cpu-quota=150000"]),
        (Resources(cpus=1), Resources(cpus=2), False, ["--cpu-shares=1024", "--cpu-quota=200000"]),
        (Resources(cpus=1), Resources(cpus=math.inf), True, ["--cpu-shares=1024"]),
        (
            Resources(mem=64 * MB),
            Resources(mem=64 * MB),
            False,
            [f"--memory={64 * MB}", f"--memory-reservation={64 * MB}"],
        ),
    ],
)
def test_amounts(resources: Resources, limits: Resources, bounded: bool, expected: list[str]) -> None:
    flags = replace(FLAGS, cgroups_enable_cfs=bounded)
    assert options(resources=resources, limits=limits, flags=flags) == (*expected, "--net=host")


def test_who_may_use_more_than_it_was_promised_is_killed_early() -> None:
    found = options(resources=Resources(mem=64 * MB), limits=Resources(mem=math.inf))
    assert found[:1] == (f"--memory-reservation={64 * MB}",)
    score = int(found[1].removeprefix("--oom-score-adj="))
    assert 0 < score < 1000


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        # Reference: DockerTest.ROOT_DOCKER_MountRelativeHostPath, ..AbsoluteHostPath, ..RelativeContainerPath.
        (Volume("/data", "data"), f"--volume={SANDBOX}/data:/data:rw"),
        (Volume("/data", "/host", VolumeMode.RO), "--volume=/host:/data:ro"),
        (Volume("data", "/host"), f"--volume=/host:{MAPPED}/data:rw"),
        (Volume("/d", "/h", propagation=MountPropagation.BIDIRECTIONAL), "--volume=/h:/d:rw,rshared"),
        (Volume("/d", "/a:b,c"), '--mount=type=bind,"source=/a:b,c",target=/d'),
        (
            Volume("/d", "/a:b", VolumeMode.RO, MountPropagation.HOST_TO_CONTAINER),
            "--mount=type=bind,source=/a:b,target=/d,readonly,bind-propagation=rslave",
        ),
    ],
)
def test_volumes(volume: Volume, expected: str) -> None:
    assert options(volumes=(volume,)) == (expected, "--net=host")


def test_volumes_of_drivers() -> None:
    volume = Volume("/d", docker_volume=DockerVolume("rexray", "vol"))
    assert options(volumes=(volume,)) == ("--volume=vol:/d:rw", "--volume-driver=rexray", "--net=host")
    named = options(DockerInfo("busybox", volume_driver="rexray"), volumes=(Volume("/d", "vol", VolumeMode.RO),))
    assert named == ("--volume=vol:/d:ro", "--volume-driver=rexray", "--net=host")


def test_persistent_volumes() -> None:
    volume = PersistentVolume("id", "role", MB, "data", VolumeMode.RO)
    assert options(persistent_volumes=(volume,))[0] == f"--volume=/work/volumes/roles/role/id:{MAPPED}/data:ro"


def test_a_sandbox_with_a_colon() -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_LaunchSandboxWithColon."""
    config = ContainerConfig(TRUE, docker=DockerInfo("busybox"), directory=Path("/a:b"))
    found = run("mesos-one", config, FLAGS, DefaultDns())
    assert found.arguments[1] == f"--mount=type=bind,source=/a:b,target={MAPPED}"


def test_networks_and_ports() -> None:
    ports = (PortMapping(8080, 80), PortMapping(8081, 81, "UDP"))
    mapped = replace(BRIDGE, port_mappings=ports)
    offered = Resources(ports=((8000, 8080), (8081, 8090)))
    assert options(mapped, resources=offered)[-3:] == ("--net=bridge", "--publish=8080:80", "--publish=8081:81/udp")
    user = DockerInfo("busybox", network=DockerNetwork.USER)
    assert options(user, network_infos=(NetworkInfo("blue"),), hostname="h") == ("--net=blue", "--hostname=h")
    other = replace(BRIDGE, parameters=(("network", "red"), ("net", "blue"), ("label", "a=b")))
    assert options(other) == ("--net=red", "--net=blue", "--label=a=b") or options(other) == (
        "--net=red",
        "--label=a=b",
    )


@pytest.mark.parametrize(
    ("docker", "asked", "message"),
    [
        # Reference: DockerTest.ROOT_DOCKER_CheckPortResource.
        (replace(BRIDGE, port_mappings=(PortMapping(1, 2),)), {}, "require port resources"),
        (
            replace(BRIDGE, port_mappings=(PortMapping(1, 2),)),
            {"resources": Resources(ports=((2, 3),))},
            r"Port \[1\] not included",
        ),
        (DockerInfo("busybox", port_mappings=(PortMapping(1, 2),)), {}, "only supported for bridge"),
        (DockerInfo("busybox"), {"hostname": "h"}, "hostname with host network"),
        (DockerInfo("busybox", network=DockerNetwork.USER), {}, "No network info"),
        (DockerInfo("busybox", network=DockerNetwork.USER), {"network_infos": (NetworkInfo(),)}, "No network name"),
        (
            DockerInfo("busybox", network=DockerNetwork.USER),
            {"network_infos": (NetworkInfo("a"), NetworkInfo("b"))},
            "single network",
        ),
        # Reference: DockerTest.ROOT_DOCKER_MountRelativeHostPathRelativeContainerPath.
        (DockerInfo("busybox"), {"volumes": (Volume("a", "b"),)}, "are relative"),
        (DockerInfo("busybox"), {"volumes": (Volume("a"),)}, "no host_path"),
        # Reference: DockerTest.ROOT_DOCKER_ConflictingVolumeDriversInMultipleVolumes, ..ConflictingVolumeDrivers.
        (
            DockerInfo("busybox"),
            {"volumes": tuple(Volume(f"/{d}", docker_volume=DockerVolume(d, "v")) for d in ("a", "b"))},
            "Only one volume driver is supported, and there are a, b",
        ),
        (
            DockerInfo("busybox", volume_driver="a"),
            {"volumes": (Volume("/b", docker_volume=DockerVolume("b", "v")),)},
            "Only one volume driver",
        ),
        (DockerInfo("--privileged"), {}, "no name of an image"),
        (DockerInfo("busybox", parameters=(("name", "x"),)), {}, "the agent's to give"),
        (DockerInfo("busybox"), {"tty_info": TTYInfo()}, "a terminal by docker.parameters"),
    ],
)
def test_what_is_refused(docker: DockerInfo, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        made(docker, **asked)


def test_default_name_servers() -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_DefaultDNS."""
    dns = {"nameservers": ["8.8.8.8"], "search": ["a.org", "b.org"], "options": ["attempts:3"]}
    of_bridge = {"docker": [{"network_mode": "BRIDGE", "dns": dns}]}
    expected = ("--dns=8.8.8.8", "--dns-search=a.org", "--dns-search=b.org", "--dns-opt=attempts:3")
    assert options(BRIDGE, dns=of_bridge) == ("--net=bridge", *expected)
    assert options(dns=of_bridge) == ("--net=host",)
    own = replace(BRIDGE, parameters=(("dns", "1.1.1.1"),))
    assert options(own, dns=of_bridge) == ("--net=bridge", "--dns=1.1.1.1")
    user = DockerInfo("busybox", network=DockerNetwork.USER)
    entries = [
        {"network_mode": "USER", "dns": {"nameservers": ["1.1.1.1"]}},
        {"network_mode": "USER", "network_name": "blue", "dns": {"nameservers": ["2.2.2.2"]}},
    ]
    for name, server in (("blue", "2.2.2.2"), ("red", "1.1.1.1")):
        given = options(user, dns={"docker": entries}, network_infos=(NetworkInfo(name),))
        assert given == (f"--net={name}", f"--dns={server}")


@pytest.mark.parametrize(
    "entries",
    [
        {},
        ["a"],
        [{"network_mode": "HOST"}],
        [{"network_mode": "BRIDGE", "network_name": "a"}],
        [{"network_mode": "BRIDGE"}] * 2,
        [{"network_mode": "BRIDGE", "dns": ["a"]}],
    ],
)
def test_default_name_servers_that_make_no_sense(entries: Any) -> None:
    with pytest.raises(FlagError, match="--default_container_dns"):
        DefaultDns.parse({"docker": entries})


def test_tags() -> None:
    names = ["busybox", "busybox:1", "host:5000/busybox", "host:5000/a/busybox:1", "busybox@sha256:abc"]
    assert [with_tag(name) for name in names] == [
        "busybox:latest",
        "busybox:1",
        "host:5000/busybox:latest",
        "host:5000/a/busybox:1",
        "busybox@sha256:abc",
    ]


def test_an_image_as_docker_describes_it() -> None:
    """Reference: DockerImageTest.ParseInspectonImage."""
    config = {"Entrypoint": ["bash"], "Cmd": None, "Env": ["PATH=/bin:/sbin", "A=b=c"]}
    expected = Image("sha256:1", ("bash",), None, {"PATH": "/bin:/sbin", "A": "b=c"})
    assert Image.of({"Id": "sha256:1", "Config": config}) == expected
    assert Image.of({"Id": "sha256:1", "ContainerConfig": config}) == expected
    assert Image.of({"Id": "sha256:1", "Config": None}) == Image("sha256:1", None, None, {})
    for wrong in ({}, {"Id": 1, "Config": {"Env": ["A"]}}, {"Id": "1", "Config": {"Entrypoint": "bash"}}):
        with pytest.raises(DockerError):
            Image.of(wrong)


def described(**changes: Any) -> dict[str, Any]:
    state = {"Pid": 7, "StartedAt": "2026-01-01T00:00:00Z", "Running": True, "ExitCode": 0}
    address = {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}
    settings = {"IPAddress": "10.0.0.1", "Networks": {"bridge": address}}
    whole = {"Id": "abc", "Name": "/mesos-one", "State": state, "NetworkSettings": settings}
    return {**whole, "HostConfig": {"NetworkMode": "bridge"}, **changes}


def test_a_container_as_docker_describes_it() -> None:
    found = Container.of(described())
    assert (found.id, found.name, found.pid, found.exit_code) == ("abc", "mesos-one", 7, None)
    assert (found.ip_address, found.ipv6_address) == ("172.17.0.2", None)
    assert Container.of(described(HostConfig={"NetworkMode": "default"})).ip_address == "172.17.0.2"
    assert Container.of(described(HostConfig={})).ip_address == "10.0.0.1"
    new = Container.of(
        described(State={"Pid": 0, "StartedAt": "0001-01-01T00:00:00Z", "Running": False, "ExitCode": 0})
    )
    assert (new.pid, new.started, new.exit_code) == (None, False, None)
    with pytest.raises(DockerError, match="no container"):
        Container.of(described(State={}))


def test_what_an_executor_is_told() -> None:
    orders = Orders("docker", "/s", "mesos-one", ("--net=host", "busybox"), {"A": "b"})
    environment = {**orders.environment(), "OTHER": "c"}
    assert Orders.take(environment) == orders
    assert environment == {"OTHER": "c"}
    with pytest.raises(DockerError, match="no orders"):
        Orders.take(environment)


OWN_PROGRAMS = {"credsStore": "evil", "cliPluginsExtraDirs": ["/mnt"], "plugins": {"evil": {"hooks": "pull"}}}
AUTHS = {"registry.example": {"auth": "dTpw"}}


@pytest.mark.parametrize(
    ("name", "content", "used"),
    [
        (".docker/config.json", {"auths": AUTHS, **OWN_PROGRAMS}, {"auths": AUTHS}),
        (".docker/config.json", OWN_PROGRAMS, {"auths": {}}),
        (".dockercfg", AUTHS, {"auths": AUTHS}),
        ("other", AUTHS, None),
    ],
)
def test_of_a_sandbox_only_credentials_are_used(tmp_path: Path, name: str, content: Any, used: Any) -> None:
    """A client executes programs that its configuration names, as root on the host."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps(content))
    assert find_credentials(tmp_path) == used


def test_credentials_are_read_in_the_sandbox(tmp_path: Path) -> None:
    """A link that leads out of it leads to nothing there, and a pipe is not waited for."""
    (tmp_path / "host").write_text(json.dumps(AUTHS))
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    (sandbox / ".dockercfg").symlink_to(tmp_path / "host")
    assert find_credentials(sandbox) is None
    (sandbox / ".dockercfg").unlink()
    os.mkfifo(sandbox / ".dockercfg")
    with pytest.raises(ContainerError, match="are no JSON"):
        find_credentials(sandbox)


def test_credentials_of_the_agent_are_as_they_are(tmp_path: Path) -> None:
    for config, written in (({"auths": AUTHS, "credsStore": "own"}, None), (AUTHS, {"auths": AUTHS})):
        write_credentials(tmp_path, config)
        file = tmp_path / ".docker/config.json"
        assert json.loads(file.read_text()) == (written or config)
        assert file.stat().st_mode & 0o777 == 0o600
