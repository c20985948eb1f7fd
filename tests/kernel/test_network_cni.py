"""`network/cni` with the plugins of Debian: what a container sees, what the host sees, and that nothing stays."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import mesocosm
from mesocosm.container import ContainerClass, ContainerID, Volume
from mesocosm.errors import ContainerError, FlagError, MesocosmError
from mesocosm.flags import Flags
from mesocosm.linux import mount
from mesocosm.networks import NetworkInfo, PortMapping
from mesocosm.oneshot import runner
from tests.agent_process import AgentProcess, agent_process, identity
from tests.command_line import MESOCOSM
from tests.launching import LINUX, TIMEOUT, Launch
from tests.machine import await_end
from tests.networks import GATEWAY, Networks, networks_in

pytestmark = pytest.mark.kernel

BLUE = (NetworkInfo("blue"),)
LISTENING = "until grep -q ':1F40 .* 0A ' /proc/net/tcp*; do :; done"
SERVE = f"busybox nc -l -p 8000 -e echo hello & {LISTENING}; echo up; read -r end"


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what a script of the test's has written, or a task of the isolator's has logged."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # Neither has an event to wait for.


@pytest.fixture
def networks(run_directory: Path) -> Iterator[Networks]:
    with networks_in(run_directory) as found:
        yield found
        assert found.is_clean(), found.state()


@pytest.fixture
async def launch(flags: Flags, networks: Networks) -> AsyncIterator[Launch]:
    """Launches containers, which end before the networks do."""
    launching = Launch(flags)
    launching.containerizer(LINUX, **networks.flags)
    yield launching
    await launching.close()


@pytest.fixture
def blue(networks: Networks) -> Networks:
    """A network with a bridge, addresses, and mapped ports."""
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    networks.describe("blue", networks.bridge(ipMasq=True), portmap)
    return networks


async def test_two_containers_and_the_host(launch: Launch, blue: Networks) -> None:
    mapped = (NetworkInfo("blue", port_mappings=(PortMapping(8080, 8000),)),)
    server = await launch.talking(SERVE, network_infos=mapped)
    assert await server.line() == "up"
    (info,) = (await server.status()).network_infos or ()
    (address,) = info.ip_addresses
    assert info.port_mappings == mapped[0].port_mappings
    ask = f"busybox nc -w 5 {address.ip_address} 8000; echo $LIBPROCESS_IP"
    assert await launch.output(ask, network_infos=BLUE) == "hello\n0.0.0.0"
    other = await launch.talking(SERVE, network_infos=(NetworkInfo("blue", port_mappings=(PortMapping(8081, 8000),)),))
    assert await other.line() == "up"
    assert blue.on_host("busybox", "nc", "-w", "5", GATEWAY, "8081") == "hello\n"
    assert len(blue.state()["links"]) == len(blue.state()["leases"]) == 2
    usage = await launch.containerizer().usage(server.container_id)
    assert usage.net_rx_bytes
    assert usage.net_tx_packets
    counted = [f"net_{way}_{what}" for way in ("rx", "tx") for what in ("packets", "bytes", "errors", "dropped")]
    assert None not in [getattr(usage, name) for name in counted]
    await server.destroy()
    await other.destroy()


def test_addresses_by_which_a_namespace_is_reached(networks: Networks) -> None:
    """Not the loopback's, nor those that mean something on one link only."""
    for command in (
        "link add one type veth peer name two",
        "address add fd00::5/64 dev one nodad",
        "address add 10.1.2.3/24 dev two",
        "link set one up",
        "link set two up",
    ):
        networks.on_host("ip", *command.split())
    argv = [sys.executable, "-c", "from mesocosm.linux import network; print(network.addresses())"]
    assert networks.on_host(*argv) == "['10.1.2.3', 'fd00::5']\n"
    networks.on_host("ip", "link", "delete", "one")
    assert networks.on_host(*argv) == "[]\n"


ANSWER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("", 8000))
    print("up", flush=True)
    while True:
        data, address = server.recvfrom(100)
        server.sendto(b"hello " + data, address)
"""
ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(float(sys.argv[3]))
    client.connect((sys.argv[1], int(sys.argv[2])))
    try:
        client.send(b"you")
        print(client.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""


async def test_a_mapped_port_of_udp(launch: Launch, blue: Networks) -> None:
    """Which is none of TCP. The same number may be both, and lead elsewhere."""
    mappings = (PortMapping(8080, 8000, "udp"), PortMapping(8080, 9000, "tcp"))
    infos = (NetworkInfo("blue", port_mappings=mappings),)
    server = await launch.talking(["python3", "-c", ANSWER], network_infos=infos)
    assert await server.line() == "up"
    assert ((await server.status()).network_infos or ())[0].port_mappings == mappings
    assert blue.on_host("python3", "-c", ASK, GATEWAY, "8080", "20") == "hello you\n"
    assert blue.on_host("busybox", "nc", "-w", "5", GATEWAY, "8080", check=False) == ""
    assert blue.on_host("python3", "-c", ASK, GATEWAY, "8081", "20") == "ConnectionRefusedError\n", "the control"
    await server.destroy()


async def test_without_metrics(flags: Flags, blue: Networks) -> None:
    launch = Launch(flags)
    launch.containerizer(LINUX, **blue.flags, network_cni_metrics=False)
    try:
        container = await launch.sleeping(network_infos=BLUE)
        usage = await launch.containerizer().usage(container.container_id)
        assert usage.net_rx_bytes is usage.net_tx_packets is None
    finally:
        await launch.close()


# What a container sees.

READ = "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf"
LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback"


def contents(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text() for name in ("hosts", "hostname", "resolv.conf")}


@pytest.mark.parametrize("with_rootfs", [False, True])
async def test_names(launch: Launch, networks: Networks, writable_rootfs: Path, with_rootfs: bool) -> None:
    """A container writes to its own files, and neither the host nor its root file system has it."""
    networks.describe("blue", networks.bridge(dns={"nameservers": ["10.9.9.9"], "search": ["blue"]}))
    rootfs = writable_rootfs if with_rootfs else None
    before = contents(Path("/etc"))
    write = "for name in hosts hostname resolv.conf; do echo evil > /etc/$name; cat /etc/$name; done"
    output = await launch.output(f"{READ}; {write}", name="web", rootfs=rootfs, network_infos=BLUE)
    assert output == f"web\nweb\n{LOCAL}\n10.77.0.2 web\nsearch blue\nnameserver 10.9.9.9\nevil\nevil\nevil"
    assert contents(Path("/etc")) == before
    if with_rootfs:
        assert contents(writable_rootfs / "etc") == {"hosts": "", "hostname": "rootfs\n", "resolv.conf": ""}


async def test_a_host_name_in_the_network_of_the_host(launch: Launch) -> None:
    network = Path("/proc/self/ns/net").readlink()
    output = await launch.output(f"readlink /proc/self/ns/net; {READ}", hostname="other.example")
    hosts = Path("/etc/hosts").read_text()
    resolver = Path("/etc/resolv.conf").read_text().rstrip()
    assert output == f"{network}\nother.example\nother.example\n{hosts}127.0.1.1 other.example\n{resolver}"


async def test_the_names_of_the_host(launch: Launch, rootfs: Path, writable_rootfs: Path) -> None:
    """In a root file system, they are the host's own, and cannot be written to."""
    script = f"{READ}; for name in hosts hostname resolv.conf; do (echo evil > /etc/$name) 2>&1; done; true"
    output = await launch.output(script, rootfs=writable_rootfs)
    etc = contents(Path("/etc"))
    expected = [os.uname().nodename, etc["hostname"].rstrip(), etc["hosts"].rstrip(), etc["resolv.conf"].rstrip()]
    assert output.startswith("\n".join(expected))
    assert output.count("Read-only file system") == 3


async def test_a_default_for_name_servers(flags: Flags, networks: Networks) -> None:
    networks.describe("blue", networks.bridge())
    dns = {"mesos": [{"network_mode": "CNI", "dns": {"nameservers": ["10.8.8.8"], "options": ["ndots:3"]}}]}
    launch = Launch(flags)
    launch.containerizer(LINUX, **networks.flags, default_container_dns=dns)
    try:
        output = await launch.output("cat /etc/resolv.conf", network_infos=BLUE)
        assert output == "options ndots:3\nnameserver 10.8.8.8"
    finally:
        await launch.close()


@pytest.mark.parametrize("target", ["../run/made", "/run/made", "../../../../../../etc/mesocosm-attack", "resolv.conf"])
async def test_links_in_the_place_of_the_files(
    launch: Launch, blue: Networks, writable_rootfs: Path, target: str
) -> None:
    """What a root file system has as links leads to nothing of the host."""
    (writable_rootfs / "etc/resolv.conf").symlink_to(target)
    command = "cat /etc/resolv.conf"
    if target == "resolv.conf":
        with pytest.raises(ContainerError, match="symbolic links"):
            await launch(command, rootfs=writable_rootfs, network_infos=BLUE)
    else:
        output = await launch.output(command, rootfs=writable_rootfs, network_infos=BLUE)
        assert output == Path("/etc/resolv.conf").read_text().rstrip()
    assert not Path("/etc/mesocosm-attack").exists()


async def test_a_volume_may_cover_the_files(launch: Launch, blue: Networks, run_directory: Path) -> None:
    (run_directory / "mine").write_text("mine")
    volume = Volume("/etc/hosts", str(run_directory / "mine"))
    assert await launch.output("cat /etc/hosts", network_infos=BLUE, volumes=(volume,)) == "mine"


async def test_what_is_kept_of_a_container(launch: Launch, blue: Networks) -> None:
    container = await launch.sleeping(name="web", network_infos=BLUE)
    directory = launch.flags.runtime_dir / "isolators/network/cni/web"
    found = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    names = {"files", "files/hosts", "files/hostname", "files/resolv.conf"}
    assert found == {"ns", "blue", "blue/network.conf", "blue/eth0", "blue/eth0/network.info", "blue/plugin", *names}
    assert (directory / "ns").stat().st_ino == Path(f"/proc/{await container.pid()}/ns/net").stat().st_ino
    await container.destroy()
    assert not directory.exists()


async def test_several_networks(launch: Launch, blue: Networks) -> None:
    blue.describe("red", blue.bridge(78))
    both = (NetworkInfo("red"), NetworkInfo(), NetworkInfo("blue"))
    container = await launch.sleeping(network_infos=both)
    infos = (await container.status()).network_infos or ()
    assert [(info.name, info.ip_addresses[0].ip_address) for info in infos] == [
        ("red", "10.78.0.2"),
        ("blue", "10.77.0.2"),
    ]
    seen = await launch.output("ip -o -4 address", parent=container)
    assert [line.split()[1::2][:2] for line in seen.splitlines()] == [
        ["lo", "127.0.0.1/8"],
        ["eth0", "10.78.0.2/24"],
        ["eth1", "10.77.0.2/24"],
    ]
    assert len(blue.state()["links"]) == 2
    await container.destroy()


async def test_nested_containers(launch: Launch, blue: Networks, rootfs: Path) -> None:
    parent = await launch.sleeping(name="web", network_infos=BLUE)
    look = "readlink /proc/self/ns/net; readlink /proc/self/ns/uts; hostname; grep web /etc/hosts; cat /etc/hostname"
    own = Path(f"/proc/{await parent.pid()}/ns")
    expected = f"{(own / 'net').readlink()}\n{(own / 'uts').readlink()}\nweb\n10.77.0.2 web\nweb"
    debug = ContainerClass.DEBUG
    nested = await launch.sleeping(parent=parent, rootfs=rootfs)
    assert (await nested.status()).network_infos == (await parent.status()).network_infos
    for around in (parent, nested):
        assert await launch.output(look, parent=around) == expected
        assert await launch.output(look, parent=around, rootfs=rootfs) == expected
        assert await launch.output(look, parent=around, container_class=debug, network_infos=BLUE) == expected
    other = await launch.sleeping(parent=nested, network_infos=BLUE, name="own")
    assert ((await other.status()).network_infos or ())[0].ip_addresses[0].ip_address == "10.77.0.3"
    assert await launch.output(look.replace("web", "own"), parent=other) != expected
    alone = await launch.output("hostname; ip -o link | wc -l", parent=nested, loopback_only=True)
    assert alone == "web\n1"
    assert await launch.output("hostname; grep -c . /etc/hosts", parent=nested, hostname="mine") == "mine\n4"
    assert (
        await launch.output("cat /etc/hosts", parent=nested, hostname="mine")
        == f"{LOCAL}\n10.77.0.2 web\n127.0.1.1 mine"
    )
    await parent.destroy()


@pytest.mark.parametrize("isolation", ["filesystem/posix", "filesystem/shared"])
async def test_without_a_file_system_of_its_own(flags: Flags, blue: Networks, isolation: str) -> None:
    """It has a mount namespace nevertheless, for its files of names, which those in it share."""
    launch = Launch(flags)
    launch.containerizer(isolation, **blue.flags)
    before, mounts = contents(Path("/etc")), Path("/proc/self/ns/mnt").readlink()
    try:
        parent = await launch.sleeping(name="web", network_infos=BLUE)
        own = Path(f"/proc/{await parent.pid()}/ns")
        look = "readlink /proc/self/ns/net; hostname; grep web /etc/hosts; cat /etc/hostname"
        expected = f"{(own / 'net').readlink()}\nweb\n10.77.0.2 web\nweb"
        nested = await launch.sleeping(parent=parent)
        for around in (parent, nested):
            assert await launch.output(look, parent=around) == expected
            assert await launch.output(look, parent=around, container_class=ContainerClass.DEBUG) == expected
        write = "for name in hosts hostname resolv.conf; do echo evil > /etc/$name; cat /etc/$name; done"
        assert await launch.output(write, parent=parent) == "evil\nevil\nevil"
        assert await launch.output("hostname; readlink /proc/self/ns/mnt", hostname="other") != f"other\n{mounts}"
        alone = await launch.output("ip -o link | wc -l", loopback_only=True)
        assert alone == "1"
        if isolation == "filesystem/posix":
            assert await launch.output("readlink /proc/self/ns/mnt") == str(mounts), "one that asks for nothing"
        await parent.destroy()
    finally:
        await launch.close()
    assert contents(Path("/etc")) == before


# No network.


async def test_none(launch: Launch) -> None:
    script = "ip -o link; ip -o address; busybox nc -l -p 8000 & " + LISTENING
    outputs = {await launch.output(f"readlink /proc/self/ns/net; {script}", loopback_only=True) for _ in range(3)}
    for output in outputs:  # Each has a port that the others have, too, and a namespace that no one else had.
        lines = output.splitlines()[1:]
        assert len(lines) == 3
        assert all(" lo" in line for line in lines)
        assert "UP" in lines[0]
        assert "127.0.0.1/8" in output
        assert "::1/128" in output
    host = Path("/proc/self/ns/net").readlink()
    assert all(not output.startswith(str(host)) for output in outputs)
    assert await launch.output("hostname; hostname -i", loopback_only=True, hostname="me") == "me\n127.0.1.1"


async def test_a_namespace_ends_with_its_container(launch: Launch, blue: Networks) -> None:
    """One without a root file system has copies of all mounts of the host, but keeps none of the namespaces."""
    container = await launch.sleeping(network_infos=BLUE)
    other = await launch.sleeping()
    mounts = Path(f"/proc/{await other.pid()}/mountinfo")
    assert "/ns " in mounts.read_text(), "the control"
    await container.destroy()
    assert "/ns " not in mounts.read_text()
    await other.destroy()


# What fails.


async def test_a_plugin_that_fails_in_the_middle(launch: Launch, networks: Networks) -> None:
    networks.script("good", 'cat > /dev/null; echo "{\\"cniVersion\\": \\"1.0.0\\", \\"ips\\": []}"')
    fails = 'if [ $CNI_COMMAND = ADD ]; then echo "{\\"code\\": 11, \\"msg\\": \\"no more\\nroom\\"}"; exit 1; fi'
    networks.script("bad", f"{fails}; if [ $CNI_COMMAND = VERSION ]; then exit 1; fi")
    networks.describe("blue", networks.bridge(), {"type": "good"}, {"type": "bad"}, {"type": "good"})
    with pytest.raises(ContainerError, match=r"^the CNI plugin 'bad' failed to ADD: no more room$"):
        await launch("true", network_infos=BLUE)
    assert networks.calls() == ["ADD good eth0", "ADD bad eth0", "DEL good eth0", "DEL bad eth0", "DEL good eth0"]
    assert networks.is_clean()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo garbage", "answered ADD with no result: it is no JSON"),
        ("true", "answered ADD with no result: it is no JSON"),
        ("""echo '{"ips": [{"address": "x"}]}'""", "answered ADD with no result: 'x' does not appear"),
        ("echo oops >&2; echo more >&2; exit 3", "failed to ADD: exit status 3: oops more$"),
        ("kill -KILL $$", "failed to ADD: signal 9$"),
        ("exec yes", "was killed: its ADD took longer than 1 s$"),
        ("sleep 1000", "was killed: its ADD took longer than 1 s$"),
        ("sleep 1000 & exit 0", "answered ADD with no result: it is no JSON"),
    ],
)
async def test_plugins_that_misbehave(flags: Flags, networks: Networks, script: str, expected: str) -> None:
    """It is killed with what it has started, and then asked to undo it."""
    networks.script("bad", f"if [ $CNI_COMMAND = ADD ]; then {script}; fi")
    networks.describe("blue", networks.bridge(), {"type": "bad"})
    launch = Launch(flags)
    launch.containerizer(LINUX, **networks.flags, network_cni_plugin_timeout=1)
    try:
        with pytest.raises(ContainerError, match=f"^the CNI plugin 'bad' {expected}"):
            await launch("true", network_infos=BLUE)
        assert networks.calls() == ["ADD bad eth0", "DEL bad eth0"]
    finally:
        await launch.close()


async def test_a_plugin_that_cannot_detach(launch: Launch, networks: Networks) -> None:
    """The container is not given up, and the address not given to anybody else, before the plugin can."""
    broken = networks.log.with_name("broken")
    networks.script("bad", f"if [ $CNI_COMMAND = DEL ]; then ! [ -e {broken} ]; else echo {{}}; fi")
    networks.describe("blue", networks.bridge(), {"type": "bad"})
    container = await launch.sleeping(network_infos=BLUE)
    broken.touch()
    with pytest.raises(ContainerError, match=r"'bad' failed to DEL: exit status 1; what is left is in .*/c1"):
        await container.destroy()
    broken.unlink()
    await container.destroy()


async def test_a_plugin_gets_nothing_of_its_caller(launch: Launch, networks: Networks) -> None:
    seen = networks.log.with_name("seen")
    networks.script("spy", f"if [ $CNI_COMMAND = ADD ]; then env > {seen}; ls -l /proc/$$/fd >> {seen}; fi; echo {{}}")
    networks.describe("blue", {"type": "spy"})
    held = os.open("/", os.O_RDONLY)
    os.set_inheritable(held, True)
    await launch.output("true", name="c1", network_infos=BLUE)
    os.close(held)
    lines = seen.read_text().splitlines()
    root = launch.flags.runtime_dir / "isolators/network/cni/c1"
    expected = {
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=eth0",
        f"CNI_NETNS={root}/ns",
        f"CNI_PATH={networks.plugins}",
        "PWD=/",
        f"PATH={os.environ['PATH']}",
    }
    assert expected <= set(lines)
    assert {line for line in lines if "=" in line} <= expected | {"OLDPWD=/", "SHLVL=0", "_=/usr/bin/env"}
    assert {line for line in lines if line.isdecimal()} <= {"0", "1", "2", "10"}, "10 is the script itself"


async def test_a_launch_that_is_given_up(launch: Launch, networks: Networks) -> None:
    networks.script("slow", "if [ $CNI_COMMAND = ADD ]; then sleep 1000; fi")
    networks.describe("blue", networks.bridge(), {"type": "slow"})
    containerizer = launch.containerizer()
    launching = asyncio.create_task(launch("true", name="c1", network_infos=BLUE))
    await until(lambda: networks.calls() == ["ADD slow eth0"])
    await containerizer.destroy(ContainerID("c1"))
    with pytest.raises(MesocosmError):
        await launching
    assert networks.calls() == ["ADD slow eth0", "DEL slow eth0"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"network_infos": (NetworkInfo("nowhere"),)},
            r"describes a network 'nowhere'; .*bad.conf: it is no JSON object$",
        ),
        ({"network_infos": (NetworkInfo("../blue"),)}, "describes a network '../blue'"),
        ({"network_infos": (NetworkInfo(""),)}, "describes a network ''"),
        ({"network_infos": BLUE * 2}, "asks for the network 'blue' twice"),
        ({"network_infos": BLUE, "loopback_only": True}, "to have only the loopback interface"),
        ({"network_infos": BLUE, "name": "a:b"}, "can join no network with this id"),
        ({"network_infos": BLUE, "hostname": "a b"}, "'a b' is no host name"),
        ({"network_infos": (NetworkInfo("missing"),)}, "there is no CNI plugin 'nonesuch' in"),
        (
            {"network_infos": (NetworkInfo("new"),)},
            "does not speak the version 1.0.0 of the network 'new'",
        ),
        ({"network_infos": (NetworkInfo("ns"),)}, "no network can be called 'ns'"),
        (
            {"network_infos": (NetworkInfo("red", port_mappings=(PortMapping(1, 1),)),)},
            "the network 'red' maps no ports",
        ),
    ],
)
async def test_what_is_refused(launch: Launch, blue: Networks, config: dict[str, object], expected: str) -> None:
    (blue.configurations / "bad.conf").write_text("[]")
    blue.script("old", """echo '{"cniVersion": "0.2.0", "supportedVersions": ["0.1.0", "0.2.0"]}'""")
    blue.describe("missing", {"type": "nonesuch"})
    blue.describe("red", blue.bridge(78))
    blue.describe("new", {"type": "old"})
    blue.describe("ns", blue.bridge(79))
    with pytest.raises(ContainerError, match=expected):
        await launch("true", **config)  # type: ignore[arg-type]
    assert blue.calls() == []


async def test_without_configurations(flags: Flags, networks: Networks) -> None:
    launch = Launch(flags)
    launch.containerizer(LINUX)
    try:
        with pytest.raises(ContainerError, match="no configurations of networks; give --network_cni_config_dir"):
            await launch("true", network_infos=BLUE)
    finally:
        await launch.close()
    for given, expected in (
        ({"network_cni_config_dir": networks.configurations}, "--network_cni_config_dir needs"),
        ({"network_cni_plugins_dir": "/x"}, "--network_cni_plugins_dir needs"),
        ({**networks.flags, "network_cni_config_dir": Path("/nonexistent")}, "/nonexistent is no directory"),
        ({"default_container_dns": {"mesos": 1}}, "'mesos' is no list"),
    ):
        with pytest.raises(FlagError, match=expected):
            Launch(flags).containerizer(LINUX, **given)


# Changes.


async def test_configurations_come_and_go(launch: Launch, networks: Networks) -> None:
    """A container is detached with what it was attached with."""
    with pytest.raises(ContainerError, match="describes a network 'blue'"):
        await launch("true", network_infos=BLUE)
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    networks.describe("blue", networks.bridge(), portmap)
    mapped = (NetworkInfo("blue", port_mappings=(PortMapping(8080, 8000),)),)
    first = await launch.sleeping(network_infos=mapped)
    networks.describe("blue", networks.bridge(78))
    second = await launch.sleeping(network_infos=BLUE)
    addresses = [((await each.status()).network_infos or ())[0].ip_addresses[0].ip_address for each in (first, second)]
    assert addresses == ["10.77.0.2", "10.78.0.2"]
    networks.describe("blue", {"type": "nonesuch"})
    await first.destroy()
    (networks.configurations / "blue.conflist").unlink()
    await second.destroy()


@pytest.mark.parametrize(
    "script", ["ip link set eth0 down; ip link set eth0 name mine", "ip link delete eth0", "ip address flush eth0"]
)
async def test_a_container_that_changes_its_interface(launch: Launch, networks: Networks, script: str) -> None:
    networks.describe("blue", networks.bridge(ipMasq=True))
    container = await launch.talking(f"{script} && echo up; read -r end", network_infos=BLUE)
    assert await container.line() == "up"
    assert any("MASQUERADE" in rule for rule in networks.state()["rules"]), "the control"
    await container.destroy()
    assert networks.is_clean()


# Recovery.


async def test_recovery(launch: Launch, blue: Networks, caplog: pytest.LogCaptureFixture) -> None:
    answer = """if [ $CNI_COMMAND = CHECK ]; then exit 1; else echo '{"cniVersion": "1.0.0"}'; fi"""
    blue.script("checked", f"cat > {blue.log}.$CNI_COMMAND; {answer}")
    blue.describe("blue", {"type": "checked"}, blue.bridge())
    container = await launch.sleeping(name="web", network_infos=BLUE, hostname="web.example")
    nested = await launch.sleeping(parent=container)
    before = await container.status()
    with caplog.at_level(logging.WARNING):
        containerizer = await launch.successor()
        await until(lambda: bool(caplog.records))
    assert "web in the network blue: the CNI plugin 'checked' failed to CHECK: exit status 1" in caplog.text
    assert await containerizer.status(container.container_id) == before
    assert (await containerizer.status(nested.container_id)).network_infos == before.network_infos
    assert (await containerizer.usage(container.container_id)).net_tx_packets is not None
    later = await launch.output("hostname; hostname -i", parent=container)
    assert later == "web.example\n10.77.0.2"
    await containerizer.destroy(container.container_id)
    assert blue.is_clean()
    for command in ("CHECK", "DEL"):
        assert '"prevResult": {' in Path(f"{blue.log}.{command}").read_text()


# `mesocosm run`.


def run(networks: Networks, *arguments: str) -> subprocess.CompletedProcess[str]:
    """On the host of the test, with the plugins of the machine."""
    own = [f"--runtime-dir={networks.log.parent}/run", f"--network-config-dir={networks.configurations}"]
    argv = ["nsenter", f"--net={networks.namespace}", *MESOCOSM, "run", *own, *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)


def test_run_in_networks(blue: Networks) -> None:
    blue.describe("red", blue.bridge(78))
    script = "hostname; ip -o -4 address show dev eth0; ip -o -4 address show dev eth1; grep box /etc/hosts"
    done = run(blue, "--network=blue", "--network", "red", "-p", "80:80", "--hostname=box", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[3:]) == ("box", ["10.77.0.2 box", "10.78.0.2 box"])
    assert "10.77.0.2/24" in lines[1]
    assert "10.78.0.2/24" in lines[2]


def test_run_without_a_network(networks: Networks) -> None:
    done = run(networks, "--network=none", "--", "sh", "-c", "ip -o link | wc -l; readlink /proc/self/ns/net")
    count, namespace = done.stdout.split()
    assert count == "1"
    assert namespace != networks.on_host("readlink", "/proc/self/ns/net").strip()
    shared = run(networks, "--network=host", "--", "readlink", "/proc/self/ns/net")
    assert shared.stdout == networks.on_host("readlink", "/proc/self/ns/net")


def test_run_in_python(networks: Networks) -> None:
    try:
        result = mesocosm.run("hostname; ip -o link | wc -l", network="none", hostname="py")
    finally:
        runner.close()
    assert result.text.split() == ["py", "1"]
    with pytest.raises(FlagError, match="needs a network that maps ports"):
        mesocosm.run("true", publish=["80:80"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--network=none", "--network=blue"], "--network none cannot be together with others; leave it out"),
        (["--publish=80:80"], "--publish needs a network that maps ports; add --network NAME"),
        (["--network=blue", "--publish=80"], "--publish: '80' is no mapping of ports; write HOST:CONTAINER[/udp]"),
        (
            ["--network=blue", "--network-config-dir=/nonexistent"],
            "/nonexistent is not a directory",
        ),
    ],
)
def test_run_refuses(networks: Networks, arguments: list[str], expected: str) -> None:
    done = run(networks, *arguments, "--", "true")
    assert done.returncode == 125
    assert expected in done.stderr


# An agent, and what kills it.


@pytest.fixture
def agent(networks: Networks, flags: Flags, run_directory: Path) -> Iterator[AgentProcess]:
    """One that ends before the networks do."""
    with agent_process(flags, run_directory) as process:
        yield process


def in_blue(agent: AgentProcess, name: str, command: str = "sleep 1000") -> None:
    container = {"type": "MESOS", "network_infos": [{"name": "blue"}], "hostname": "web.example"}
    answer = agent.launch(name, command, container=container)
    assert answer.status == 200, answer.text


def addresses(agent: AgentProcess, name: str) -> list[str]:
    (network,) = agent.containers()[name]["container_status"]["network_infos"]
    assert network["name"] == "blue"
    return [address["ip_address"] for address in network["ip_addresses"]]


def test_everything_is_killed(agent: AgentProcess, blue: Networks) -> None:
    agent.start(*blue.arguments)
    for name in ("web", "db"):
        in_blue(agent, name)
    before = addresses(agent, "web")
    assert before == ["10.77.0.2"]
    init = agent.containers()["db"]["container_status"]["executor_pid"]
    agent.stop(signal.SIGKILL)
    os.kill(init, signal.SIGKILL)
    agent.start(*blue.arguments)
    assert addresses(agent, "web") == before
    assert "10.77.0.3" not in str(blue.state()["leases"])
    assert agent.call("KILL_CONTAINER", container_id=identity("web")).status == 200
    agent.wait_for("web")
    assert blue.is_clean()
    assert not (agent.flags.runtime_dir / "isolators/network/cni").exists()


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie that nobody has waited for yet."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def recorded(record: Path, plugin: str) -> int | None:
    """The process that a record names, if that is the plugin, and has begun."""
    with contextlib.suppress(OSError, ValueError, IndexError):  # Nothing is in it yet.
        pid = int(record.read_text().split()[0])
        return pid if plugin in Path(f"/proc/{pid}/cmdline").read_text() else None
    return None


def test_an_agent_that_is_killed_while_a_plugin_is_at_it(agent: AgentProcess, blue: Networks) -> None:
    """The next one ends the plugin before it has the others undo what they did."""
    late = blue.log.with_name("late")
    blue.script("slow", f"if [ $CNI_COMMAND = ADD ]; then sleep 1000; touch {late}; fi")
    blue.describe("blue", blue.bridge(), {"type": "slow"})
    agent.start(*blue.arguments)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        launching = pool.submit(in_blue, agent, "web")
        record = agent.flags.runtime_dir / "isolators/network/cni/web/blue/plugin"
        deadline = time.monotonic() + TIMEOUT
        while (plugin := recorded(record, "slow")) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # Of a file that is written there is no event that is worth its code here.
        agent.stop(signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            launching.result()
    assert is_running(plugin), "the control"
    agent.start(*blue.arguments)
    assert not late.exists()
    assert blue.calls() == ["ADD slow eth0", "DEL slow eth0"]
    assert blue.is_clean()
    await_end(plugin, time.monotonic() + TIMEOUT)
    assert not is_running(plugin)


@pytest.mark.parametrize("persist", [True, False])
def test_a_boot(agent: AgentProcess, blue: Networks, persist: bool) -> None:
    """Nothing runs and nothing is mounted any more, and the runtime directory is empty; the work directory is not."""
    arguments = [*blue.arguments, *(["--network_cni_root_dir_persist"] if persist else [])]
    answer = f"if [ $CNI_COMMAND = ADD ]; then cat {blue.log}.result; fi"
    blue.script("spy", f'echo "netns=$CNI_NETNS" >> {blue.log}.$CNI_COMMAND; {answer}')
    Path(f"{blue.log}.result").write_text('{"cniVersion": "1.0.0"}')
    blue.describe("blue", {"type": "spy"}, blue.bridge())
    agent.start(*arguments)
    in_blue(agent, "web")
    init = agent.containers()["web"]["container_status"]["executor_pid"]
    agent.stop(signal.SIGKILL)
    os.kill(init, signal.SIGKILL)
    state = (agent.flags.work_dir if persist else agent.flags.runtime_dir) / "isolators/network/cni"
    for name in ("web/ns", "web/files", ""):
        mount.unmount(str(state / name).rstrip("/"), detach=True)
    shutil.rmtree(agent.flags.runtime_dir)
    agent.start(*arguments)
    assert ("DEL spy eth0" in blue.calls()) is persist
    if persist:
        assert Path(f"{blue.log}.DEL").read_text() == "netns=\n"
        assert not state.exists()
    else:
        assert blue.state()["leases"], "the control"
        shutil.rmtree(blue.leases)
