"""Configurations of networks, what plugins answer, and the files that are made of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.cni.configuration import Network, load
from mesocosm.cni.files import DefaultDns, host_name, hosts, hosts_with, resolver
from mesocosm.cni.result import Dns, Result, one_line, parse_error
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.network.cni import CniIsolator
from mesocosm.linux.poll import readable
from mesocosm.networks import IPAddress, Label, NetworkInfo, PortMapping

BRIDGE = {"type": "bridge"}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.sampled_from(["ips", "ip4", "ip", "dns", "msg"]), values),
)


def network(*plugins: dict[str, Any], **fields: Any) -> Network:
    content = {"name": "blue", "cniVersion": "1.0.0", "plugins": list(plugins), **fields}
    return Network.parse(json.dumps(content))


def request(found: Network, index: int = 0, previous: dict[str, Any] | None = None) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(found.request(found.plugins[index], previous))
    return result


# Configurations.


def test_a_single_plugin_and_a_list() -> None:
    single = Network.parse('{"name": "blue", "type": "bridge", "mtu": 1400}')
    assert (single.name, single.version, single.check) == ("blue", "0.1.0", True)
    assert request(single) == {"name": "blue", "cniVersion": "0.1.0", "type": "bridge", "mtu": 1400}
    several = network(BRIDGE, PORTMAP, disableCheck=True)
    assert request(several, 1, {"ips": []}) == {
        "name": "blue",
        "cniVersion": "1.0.0",
        **PORTMAP,
        "prevResult": {"ips": []},
    }
    for each in (single, several):
        assert Network.parse(each.dump()).dump() == each.dump()
    assert not Network.parse(several.dump()).check


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "Expecting property name"),
        ("[]", "no JSON object"),
        ('{"type": "bridge"}', "None is no name"),
        ('{"type": "bridge", "name": "../x"}', "'../x' is no name"),
        ('{"type": "bridge", "name": ".."}', "'..' is no name"),
        ('{"type": "bridge", "name": "a/b"}', "'a/b' is no name"),
        ('{"type": "bridge", "name": "a\\n"}', "is no name"),
        ('{"type": "bridge", "name": "a", "cniVersion": "2.0.0"}', "cniVersion '2.0.0' is unknown here; 1.0.0 is"),
        ('{"type": "bridge", "name": "a", "cniVersion": []}', r"cniVersion \[\] is unknown"),
        ('{"name": "a", "plugins": []}', "no list of objects"),
        ('{"name": "a", "plugins": [1]}', "no list of objects"),
        ('{"name": "a"}', "None is no type"),
        ('{"name": "a", "type": "../../bin/sh"}', "'../../bin/sh' is no type"),
        ('{"name": "a", "type": ".."}', "'..' is no type"),
    ],
)
def test_configurations_that_are_none(content: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Network.parse(content)


def test_a_directory_of_configurations(tmp_path: Path) -> None:
    for name, content in {
        "10-blue.conflist": network(BRIDGE).dump(),
        "20-red.conf": b'{"name": "red", "type": "macvlan"}',
        "30-green.json": b'{"name": "green", "type": "ptp"}',
        "40-blue.conf": b'{"name": "blue", "type": "ptp"}',
        "50-bad.conf": b"\xff",
        "README": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "60-missing.conf").symlink_to("nowhere")
    (tmp_path / "directory.conf").mkdir()
    found = load(tmp_path)
    assert list(found.networks) == ["blue", "red", "green"]
    assert found.networks["blue"].plugins == (BRIDGE,)
    blue, bad, missing = found.problems
    assert blue == f"{tmp_path}/40-blue.conf: the network 'blue' is described by another file, too"
    assert bad.startswith(f"{tmp_path}/50-bad.conf: ")
    assert missing == f"{tmp_path}/60-missing.conf: No such file or directory"


def test_what_a_container_asks_for() -> None:
    info = NetworkInfo(
        "blue",
        (IPAddress("IPv4", "10.0.0.7"), IPAddress("IPv6")),
        ("g",),
        (Label("k", "v"), Label("l")),
        (PortMapping(8080, 80), PortMapping(53, 53, "UDP")),
    )
    ips = {"type": "bridge", "capabilities": {"ips": True, "portMappings": False}, "args": {"cni": {"x": 1}}}
    asked = network(ips, PORTMAP).asked(info)
    message = {
        "name": "blue",
        "ip_addresses": [{"protocol": "IPv4", "ip_address": "10.0.0.7"}, {"protocol": "IPv6"}],
        "groups": ["g"],
        "labels": {"labels": [{"key": "k", "value": "v"}, {"key": "l"}]},
        "port_mappings": [
            {"host_port": 8080, "container_port": 80},
            {"host_port": 53, "container_port": 53, "protocol": "UDP"},
        ],
    }
    assert request(asked)["args"] == {"cni": {"x": 1}, "org.apache.mesos": {"network_info": message}}
    assert request(asked)["runtimeConfig"] == {"ips": ["10.0.0.7"]}
    assert request(asked, 1)["args"] == {"org.apache.mesos": {"network_info": message}}
    assert request(asked, 1)["runtimeConfig"] == {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
        ]
    }
    plain = request(network(BRIDGE).asked(NetworkInfo("blue")))
    assert plain["args"] == {"org.apache.mesos": {"network_info": {"name": "blue"}}}
    assert "runtimeConfig" not in plain


def test_ports_for_the_plugin_of_mesos() -> None:
    asked = network({"type": "mesos-cni-port-mapper"}).asked(NetworkInfo("b", port_mappings=(PortMapping(1, 2),)))
    assert request(asked)["args"]["org.apache.mesos"]["network_info"]["port_mappings"]


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        ([(0, 80)], "0 is no port"),
        ([(80, 65536)], "65536 is no port"),
        ([(80, 80, "icmp")], "'icmp'; write sctp, tcp, udp"),
        ([(80, 80), (80, 81, "tcp")], "the port 80 of the host is mapped twice"),
    ],
)
def test_port_mappings_that_make_no_sense(mappings: list[Any], expected: str) -> None:
    info = NetworkInfo("blue", port_mappings=tuple(PortMapping(*mapping) for mapping in mappings))
    with pytest.raises(ContainerError, match=expected):
        network(PORTMAP).asked(info)


def test_what_no_plugin_would_look_at() -> None:
    with pytest.raises(ContainerError, match="the network 'blue' maps no ports; have a plugin"):
        network(BRIDGE).asked(NetworkInfo("blue", port_mappings=(PortMapping(80, 80),)))
    for args in ({"org.apache.mesos": {}}, []):
        with pytest.raises(ContainerError, match=r"'args' that are no object, or have 'org\.apache\.mesos' in"):
            network({"type": "bridge", "args": args}).asked(NetworkInfo("blue"))


# Results.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, ()),
        ({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}, "ip6": {"ip": "fd00::2/64"}}, ("10.0.0.2", "fd00::2")),
        ({"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.0.0.2/24"}]}, ("10.0.0.2",)),
        ({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/8"}, {"address": "fd00::2"}]}, ("10.0.0.2", "fd00::2")),
        ({"ips": None, "dns": None}, ()),
    ],
)
def test_results_of_every_version(content: dict[str, Any], expected: tuple[str, ...]) -> None:
    result = Result.parse(json.dumps(content).encode())
    assert result.addresses == expected
    assert result.content == content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no JSON"),
        ("garbage", "no JSON"),
        ("[]", "no JSON object"),
        ('{"ips": 1}', "'ips' are no list"),
        ('{"ips": [1]}', "None is no address"),
        ('{"ips": [{"address": "nowhere"}]}', "nowhere"),
        ('{"ip4": []}', "None is no address"),
        ('{"dns": []}', None),
        ('{"dns": [1]}', "'dns' is no object"),
        ('{"dns": {"nameservers": ["a\\nb"]}}', "nameservers in its 'dns' are no list of words"),
        ('{"dns": {"domain": "a b"}}', "domain in its 'dns' is no word"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_results_that_are_none(text: str, expected: str | None) -> None:
    if expected is None:
        assert Result.parse(text.encode()).dns == Dns()
        return
    with pytest.raises(ValueError, match=expected):
        Result.parse(text.encode())


@given(JSON)
def test_any_json(value: object) -> None:
    text = json.dumps(value).encode()
    parse_error(text)
    try:
        Result.parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right.


def test_errors_are_one_line() -> None:
    assert parse_error(b'{"code": 7, "msg": "no\\naddress", "details": "left"}') == "no address: left"
    assert parse_error(b'{"code": 7}') is None
    assert parse_error(b"oops") is None
    assert one_line("a\x1b[31m\n\n b\0") == "a [31m b"
    assert len(one_line("x" * 10_000)) < 500


# Names.


def test_a_resolver_configuration() -> None:
    assert str(Dns.parse({})) == ""
    content = {"nameservers": ["1.1.1.1", "fd00::1"], "domain": "d.", "search": ["a", "b"], "options": ["ndots:2"]}
    assert str(Dns.parse(content)) == (
        "domain d.\nsearch a b\noptions ndots:2\nnameserver 1.1.1.1\nnameserver fd00::1\n"
    )


def test_the_default_is_for_networks_that_say_nothing() -> None:
    default = DefaultDns(
        {
            "mesos": [
                {"network_mode": "CNI", "dns": {"nameservers": ["9.9.9.9"]}},
                {"network_mode": "CNI", "network_name": "red", "dns": {"nameservers": ["8.8.8.8"], "domain": "red"}},
            ]
        }
    )
    said = Result.parse(b'{"dns": {"nameservers": ["7.7.7.7"], "domain": "said"}}')
    nothing = Result.parse(b'{"dns": {"domain": "unused"}}')
    dns = resolver([("blue", said), ("red", nothing), ("green", nothing)], default)
    assert dns == Dns(("7.7.7.7", "8.8.8.8", "9.9.9.9"), "red")
    assert resolver([("blue", nothing)], DefaultDns(None)) == Dns()


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ({"mesos": {}}, "'mesos' is no list"),
        ({"mesos": [{}]}, "can only be CNI"),
        ({"mesos": [{"network_mode": "HOST"}]}, "can only be CNI"),
        ({"mesos": [{"network_mode": "CNI"}, {"network_mode": "CNI"}]}, "two entries without a network_name"),
        ({"mesos": [{"network_mode": "CNI", "network_name": "a"}] * 2}, "two entries for the network 'a'"),
        ({"mesos": [{"network_mode": "CNI", "dns": {"nameservers": [1]}}]}, "no list of words"),
    ],
)
def test_defaults_that_make_no_sense(flag: dict[str, Any], expected: str) -> None:
    with pytest.raises(FlagError, match=expected):
        DefaultDns(flag)


def test_host_names() -> None:
    assert host_name("web-1.example", "c") == "web-1.example"
    assert host_name(None, "c_1") == "c_1"
    assert host_name(None, "x" * 200) == "x" * 63
    for name in ("", "a b", "a\n127.0.0.1 bank", "-x", "x-", "x" * 65, "ü"):
        with pytest.raises(ContainerError, match="is no host name"):
            host_name(name, "c")


def test_hosts() -> None:
    local = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    assert hosts("web", ["10.0.0.2", "fd00::2"]) == f"{local}10.0.0.2 web\nfd00::2 web\n"
    assert hosts("web", []) == f"{local}127.0.1.1 web\n"
    assert hosts_with("web", "127.0.0.1 localhost") == "127.0.0.1 localhost\n127.0.1.1 web\n"
    assert hosts_with("web", "") == "127.0.1.1 web\n"


# Containers that were recovered.


@pytest.mark.skipif(sys.platform != "linux", reason="the isolator is for Linux")
async def test_containers_are_checked_though_one_ends_meanwhile(tmp_path: Path) -> None:
    """The first is being checked when the second ends; the third is checked after that."""
    pipes = [tmp_path / "asked", tmp_path / "go"]
    for path in pipes:
        os.mkfifo(path)
    asked, go = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in pipes)

    async def asked_for() -> bytes:
        await asyncio.wait_for(readable(asked), 30)
        return os.read(asked, 100)

    plugin = tmp_path / "checked"
    script = f"[ $CNI_COMMAND = CHECK ] || exit 0; echo $CNI_CONTAINERID > {tmp_path}/asked; read -r go < {tmp_path}/go"
    plugin.write_text(f"#!/bin/sh\n{script}\n")
    plugin.chmod(0o755)
    isolator = CniIsolator(Flags(runtime_dir=tmp_path / "run", network_cni_plugins_dir=str(tmp_path)))
    config = ContainerConfig(CommandInfo("true"), network_infos=(NetworkInfo("blue"),))
    states = [ContainerState(ContainerID(name), config, None) for name in ("first", "second", "third")]
    for state in states:
        directory = tmp_path / f"run/isolators/network/cni/{state.container_id}/blue"
        (directory / "eth0").mkdir(parents=True)
        (directory / "network.conf").write_text('{"name": "blue", "cniVersion": "1.0.0", "type": "checked"}')
        (directory / "eth0/network.info").write_text('{"cniVersion": "1.0.0"}')
    await isolator.recover(states, [])
    assert await asked_for() == b"first\n"
    await isolator.cleanup(ContainerID("second"))
    os.write(go, b"\n")
    assert await asked_for() == b"third\n"
    await isolator.close()
    for descriptor in (asked, go):
        os.close(descriptor)
