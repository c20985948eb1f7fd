"""`cgroups/net_cls`: real packets are seen by the class of their container, by iptables and by tc."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import ContainerID, LinuxInfo
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.net_cls import NetClsIsolator
from mesocosm.linux import cgroup
from tests.agent_process import AgentProcess, identity
from tests.kernel.cgroup_support import CONTAINER, config, group_of
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/net_cls"
PRIMARY = 0x12
FIRST, SECOND = PRIMARY << 16 | 1, PRIMARY << 16 | 2
OWN = LinuxInfo(share_cgroups=False)
SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range({count}):
        sender.sendto(b"x" * 100, ("127.0.0.1", 9))
"""
Mount = Callable[..., Path]


class Network:
    """A network namespace of the test's own, with a loopback interface that is up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str) -> str:
        """Runs a command in there; returns its output."""
        inside = ["ip", "netns", "exec", self.name, *command]
        return subprocess.run(inside, check=True, capture_output=True, text=True).stdout

    def send(self, count: int) -> None:
        """Sends so many packets from no container."""
        subprocess.run(self.sending(count), check=True)

    def sending(self, count: int) -> list[str]:
        """The command that sends so many packets from in here."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "python3", "-c", SEND.format(count=count)]


@pytest.fixture
def network(unique_name: str) -> Iterator[Network]:
    subprocess.run(["ip", "netns", "add", unique_name], check=True)
    network = Network(unique_name)
    network.run("ip", "link", "set", "lo", "up")
    yield network
    subprocess.run(["ip", "netns", "delete", unique_name], check=True)


async def test_packets_match_in_iptables(legacy: Mount, launch: Launch, network: Network) -> None:
    for handle in (FIRST, SECOND):
        network.run("iptables", "-A", "OUTPUT", "-m", "cgroup", "--cgroup", hex(handle))
    launch.containerizer(ISOLATION, cgroups_hierarchy=legacy("net_cls"), cgroups_net_cls_primary_handle=hex(PRIMARY))
    first = await launch.talking("read -r go; " + " ".join(map(_quoted, network.sending(3))), isolation=ISOLATION)
    second = await launch.talking("read -r go; " + " ".join(map(_quoted, network.sending(5))), isolation=ISOLATION)
    assert (await first.status()).net_cls_classid == FIRST
    assert (await second.status()).net_cls_classid == SECOND
    network.send(7)
    for container in (first, second):
        container.say("go")
        assert await container.wait() == 0, container.stream("stderr")
    counted = network.run("iptables", "-nvxL", "OUTPUT").splitlines()[2:]
    assert [int(line.split()[0]) for line in counted] == [3, 5]


def _quoted(word: str) -> str:
    return f"'{word}'"


async def test_packets_get_their_class_in_tc(legacy: Mount, launch: Launch, network: Network) -> None:
    """That of a class of htb, 12:1: cls_cgroup takes a packet's class for the one to queue it in."""
    network.run("tc", "qdisc", "add", "dev", "lo", "root", "handle", f"{PRIMARY:x}:", "htb")
    for minor in (1, 2):
        classid = f"{PRIMARY:x}:{minor}"
        network.run(*f"tc class add dev lo parent {PRIMARY:x}: classid {classid} htb rate 1gbit".split())
    try:
        network.run(*f"tc filter add dev lo parent {PRIMARY:x}: protocol ip prio 10 handle 1: cgroup".split())
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this kernel has no cls_cgroup: {error.stderr.strip()}")
    launch.containerizer(ISOLATION, cgroups_hierarchy=legacy("net_cls"), cgroups_net_cls_primary_handle=hex(PRIMARY))
    container = await launch(network.sending(3), isolation=ISOLATION)
    assert await container.wait() == 0, container.stream("stderr")
    network.send(5)
    sent = re.findall(
        r"class htb (\S+) .*\n Sent \d+ bytes (\d+) pkt", network.run("tc", "-s", "class", "show", "dev", "lo")
    )
    assert dict(sent) == {f"{PRIMARY:x}:1": "3", f"{PRIMARY:x}:2": "0"}


async def test_handles_are_given_back(flags: Flags, legacy: Mount) -> None:
    isolator = NetClsIsolator.create(
        replace(
            flags,
            cgroups_hierarchy=legacy("net_cls"),
            cgroups_net_cls_primary_handle=hex(PRIMARY),
            cgroups_net_cls_secondary_handles="0x1,0x2",
        )
    )
    first, second, third = (ContainerID(name) for name in ("a", "b", "c"))
    for container in (first, second):
        await isolator.prepare(container, config())
    with pytest.raises(ContainerError, match="all 2 are in use"):
        await isolator.prepare(third, config())
    for container in (third, first):
        await isolator.cleanup(container)
    await isolator.prepare(third, config())
    assert (await isolator.status(third)).net_cls_classid == FIRST
    for container in (second, third):
        await isolator.cleanup(container)


@pytest.mark.slow
async def test_handles_are_kept_over_a_recovery(legacy: Mount, launch: Launch) -> None:
    launch.containerizer(ISOLATION, cgroups_hierarchy=legacy("net_cls"), cgroups_net_cls_primary_handle=hex(PRIMARY))
    first = await launch.sleeping(isolation=ISOLATION)
    second = await launch.sleeping(isolation=ISOLATION)
    await first.destroy()
    containerizer = await launch.successor()
    assert (await containerizer.status(second.container_id)).net_cls_classid == SECOND
    handles = set()
    for _ in range(2):
        container = await launch.sleeping(isolation=ISOLATION)
        handles.add((await container.status()).net_cls_classid)
    assert handles == {FIRST, PRIMARY << 16 | 3}


async def test_nested_containers(legacy: Mount, launch: Launch) -> None:
    launch.containerizer(ISOLATION, cgroups_hierarchy=legacy("net_cls"), cgroups_net_cls_primary_handle=hex(PRIMARY))
    outer = await launch.sleeping(isolation=ISOLATION)
    sharing = await launch.sleeping(isolation=ISOLATION, parent=outer)
    own = await launch.sleeping(isolation=ISOLATION, parent=outer, linux_info=OWN)
    assert [(await container.status()).net_cls_classid for container in (outer, sharing, own)] == [FIRST, FIRST, SECOND]


@pytest.mark.slow
async def test_the_operator_manages_handles_without_the_flag(legacy: Mount, launch: Launch) -> None:
    launch.containerizer(ISOLATION, cgroups_hierarchy=legacy("net_cls"))
    container = await launch.sleeping(isolation=ISOLATION)
    assert (await container.status()).net_cls_classid is None
    cgroup.write(group_of(launch.flags, "net_cls", container.container_id), "net_cls.classid", 0xAAAABBBB)
    assert (await container.status()).net_cls_classid == 0xAAAABBBB
    containerizer = await launch.successor()
    assert (await containerizer.status(container.container_id)).net_cls_classid == 0xAAAABBBB


@pytest.mark.slow
def test_the_agent_shows_it(legacy: Mount, agent: AgentProcess) -> None:
    agent.start(
        f"--cgroups_hierarchy={legacy('net_cls')}",
        f"--cgroups_net_cls_primary_handle={PRIMARY:#x}",
        isolation="cgroups/net_cls",
    )
    assert agent.launch("x", "sleep 1000").status == 200
    shown = {"net_cls": {"classid": FIRST}}
    assert agent.containers()["x"]["container_status"]["cgroup_info"] == shown
    (container,) = agent.get("/containers?show_standalone=true").json
    assert container["status"]["cgroup_info"] == shown
    assert agent.call("KILL_CONTAINER", container_id=identity("x")).status == 200
    agent.wait_for("x")


async def test_cleanup_without_prepare(flags: Flags, legacy: Mount) -> None:
    await NetClsIsolator.create(replace(flags, cgroups_hierarchy=legacy("net_cls"))).cleanup(CONTAINER)
