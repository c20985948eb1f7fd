"""`cgroups/net_prio`: packets of a container get the priority that the operator has written for an interface."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo
from mesocosm.linux import cgroup
from tests.kernel.cgroup_support import group_of
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/net_prio"
SEND = """
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
    sender.bind(("{interface}", 0x88b5))
    for _ in range({count}):
        sender.send(bytes(12) + bytes((0x88, 0xb5)) + bytes(100))
"""


@pytest.fixture
def interface(unique_name: str) -> Iterator[str]:
    """One of two classes and no address. Only interfaces of the host's network namespace have priorities."""
    name = f"t{unique_name.removeprefix('test-')}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    for each in (name, f"{name}p"):
        subprocess.run(["ip", "link", "set", each, "up"], check=True)
    for command in (
        f"qdisc add dev {name} root handle 7: htb default 2",
        f"class add dev {name} parent 7: classid 7:1 htb rate 1gbit",
        f"class add dev {name} parent 7: classid 7:2 htb rate 1gbit",
    ):
        subprocess.run(["tc", *command.split()], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


async def test_priority(legacy: Callable[..., Path], launch: Launch, interface: str) -> None:
    """A priority with the number of a queueing discipline in it names one of its classes (htb_classify, sch_htb.c).

    It stays over a restart, and is that of nested containers, too, also of one with a cgroup of its own.
    """
    launch.containerizer(ISOLATION, cgroups_hierarchy=legacy("net_prio"))
    plain = await launch(["python3", "-c", SEND.format(interface=interface, count=5)], isolation=ISOLATION)
    assert await plain.wait() == 0, plain.stream("stderr")
    assert sent(interface)["7:1"] == 0
    container = await launch.talking(
        f"read -r go; exec python3 -c '{SEND.format(interface=interface, count=3)}'", isolation=ISOLATION
    )
    group = group_of(launch.flags, "net_prio", container.container_id)
    cgroup.write(group, "net_prio.ifpriomap", f"{interface} {7 << 16 | 1}")
    container.containerizer = await launch.successor()
    for shares in (True, False):
        nested = await launch(
            ["python3", "-c", SEND.format(interface=interface, count=2)],
            parent=container,
            linux_info=LinuxInfo(share_cgroups=shares),
        )
        assert await nested.wait() == 0, nested.stream("stderr")
    assert sent(interface)["7:1"] == 4
    container.say("go")
    assert await container.wait() == 0, container.stream("stderr")
    assert sent(interface)["7:1"] == 7
    assert not cgroup.exists(group)


def sent(interface: str) -> dict[str, int]:
    """Packets, by their class."""
    output = subprocess.run(
        ["tc", "-s", "class", "show", "dev", interface], check=True, capture_output=True, text=True
    ).stdout
    return {name: int(count) for name, count in re.findall(r"class htb (\S+) .*\n Sent \d+ bytes (\d+) pkt", output)}
