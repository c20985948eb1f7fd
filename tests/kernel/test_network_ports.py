"""`network/ports` against containers that listen, on free ports of the host's loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from dataclasses import replace
from typing import Any

import pytest

from mesocosm.container import Resources
from mesocosm.errors import FlagError
from mesocosm.flags import AGENT_PORTS, Flags
from mesocosm.isolators.network import ports
from mesocosm.isolators.network.ports import PortsIsolator
from mesocosm.linux import socket_diagnosis
from tests.agent_process import AgentProcess
from tests.launching import Launch, Started

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,network/ports"
LISTEN = """
import socket, sys
servers = [socket.create_server((address, int(port)), family=family)
           for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)) for port in sys.argv[1:]]
print("up", flush=True)
sys.stdin.read()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def listening(launch: Launch, *numbers: int, **options: Any) -> Started:
    """A container that listens on these ports, of both protocols."""
    isolation = options.pop("isolation", ISOLATION)
    container = await launch.talking(["python3", "-c", LISTEN, *map(str, numbers)], isolation=isolation, **options)
    assert await container.line() == "up"
    return container


def watching(launch: Launch, isolation: str = ISOLATION, **flags: Any) -> None:
    launch.containerizer(isolation, container_ports_watch_interval=0.05, **flags)


@pytest.mark.parametrize("isolation", [ISOLATION, f"{ISOLATION},namespaces/pid"])
async def test_a_port_that_it_does_not_hold(launch: Launch, isolation: str) -> None:
    watching(launch, isolation, enforce_container_ports=True)
    held, taken = free_port(), free_port()
    resources = Resources(ports=((held, held),))
    honest = await listening(launch, held, resources=resources)
    guilty = await listening(launch, taken, resources=resources)
    termination = await guilty.termination()
    assert termination.reason == "REASON_CONTAINER_LIMITATION"
    assert (termination.limited_resource, termination.limited_ranges) == ("ports", ((taken, taken),))
    assert termination.message == f"Container c2 is listening on unallocated port(s): [{taken}-{taken}]"
    honest.close()
    assert await honest.wait() == 0, "the control: it was looked at as often"


async def test_a_nested_container_counts_for_the_one_around_it(launch: Launch) -> None:
    watching(launch, enforce_container_ports=True)
    held, taken = free_port(), free_port()
    parent = await launch.sleeping(resources=Resources(ports=((held, held),)), isolation=ISOLATION)
    await listening(launch, held, parent=parent)
    await listening(launch, taken, parent=parent)
    assert (await parent.termination()).limited_ranges == ((taken, taken),)


async def test_without_enforcement_it_is_only_told(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    """And each port once."""
    watching(launch)
    with caplog.at_level("INFO"):
        container = await listening(launch, port := free_port())
        isolator = next(each for each in launch.containerizer()._isolation if isinstance(each, PortsIsolator))
        while isolator._watched[container.container_id].taken != {port}:
            await until_next_look()
        await until_next_look()
    assert [line for line in caplog.messages if "unallocated" in line] == [
        f"Container c1 is listening on unallocated port(s): [{port}-{port}]"
    ]
    container.close()
    assert await container.wait() == 0


async def until_next_look() -> None:
    await asyncio.sleep(0.1)  # There is no event of a look that finds nothing.


@pytest.mark.parametrize(
    "which", [{"container_ports_isolated_range": ((1, 2),)}, {"check_agent_port_range_only": True}]
)
async def test_ports_that_are_not_looked_at(launch: Launch, which: dict[str, Any]) -> None:
    watching(launch, enforce_container_ports=True, **which)
    container = await listening(launch, free_port())
    await until_next_look()
    await until_next_look()
    container.close()
    assert await container.wait() == 0


async def test_ports_that_the_agent_offers(launch: Launch) -> None:
    """Are the only ones that are looked at, if so flagged."""
    watching(launch, enforce_container_ports=True, check_agent_port_range_only=True)
    others = await listening(launch, free_port())
    offered = await listening(launch, taken := offered_port())
    assert (await offered.termination()).limited_ranges == ((taken, taken),)
    others.close()
    assert await others.wait() == 0, "the control"


def offered_port() -> int:
    for port in range(*AGENT_PORTS[0]):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("every port that an agent offers is in use")


async def test_a_network_of_its_own(launch: Launch) -> None:
    """There, every port is free."""
    watching(launch, enforce_container_ports=True)
    container = await listening(launch, free_port(), loopback_only=True)
    await until_next_look()
    container.close()
    assert await container.wait() == 0


async def test_recovery_and_updates(launch: Launch) -> None:
    watching(launch, enforce_container_ports=True)
    port = free_port()
    resources = Resources(ports=((port, port),))
    container = await listening(launch, port, resources=resources)
    containerizer = await launch.successor()
    await until_next_look()
    assert container.container_id in await containerizer.containers()
    await containerizer.update(container.container_id, Resources(), Resources())
    termination = await containerizer.wait(container.container_id)
    assert termination.limited_ranges == ((port, port),)


@pytest.mark.parametrize("nested", [False, True])
async def test_recovered_ones_that_listen_where_they_should_not(launch: Launch, nested: bool) -> None:
    """Nobody minded, as it was not enforced before; those that hold their ports go on."""
    held, taken = free_port(), free_port()
    resources = Resources(ports=((held, held),))
    honest = await launch.sleeping(isolation=ISOLATION, resources=resources)
    guilty = await launch.sleeping(isolation=ISOLATION, resources=resources)
    for parent, port in ((honest, held), (guilty, taken)):
        if nested:
            await listening(launch, port, parent=parent)
        else:
            await parent.destroy()
    if not nested:
        honest = await listening(launch, held, resources=resources)
        guilty = await listening(launch, taken, resources=resources)
    successor = await launch.successor(container_ports_watch_interval=0.05, enforce_container_ports=True)
    termination = await successor.wait(guilty.container_id)
    assert termination.limited_ranges == ((taken, taken),)
    await until_next_look()
    assert honest.container_id in await successor.containers()


def listener(port: int) -> list[str]:
    return ["python3", "-c", LISTEN.replace("sys.stdin.read()", "import time; time.sleep(60)"), str(port)]


def test_what_the_agent_tells(agent: AgentProcess) -> None:
    """Of a container that asked for no ports at all; one that holds its own, of two resources, goes on."""
    agent.start(
        "--container_ports_watch_interval=50ms", "--enforce_container_ports", isolation="filesystem/linux,network/ports"
    )
    held, taken = free_port(), free_port()
    ranges = [{"begin": 1, "end": 2}, {"begin": held, "end": held}]
    ports = [{"name": "ports", "type": "RANGES", "ranges": {"range": [each]}} for each in ranges]
    assert agent.launch("honest", listener(held), resources=ports).status == 200
    assert agent.launch("guilty", listener(taken), resources=[]).status == 200
    ended = agent.wait_for("guilty")
    assert (ended["state"], ended["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LIMITATION")
    assert ended["message"] == f"Container guilty is listening on unallocated port(s): [{taken}-{taken}]"
    [resource] = ended["limitation"]["resources"]
    assert (resource["name"], resource["ranges"]) == ("ports", {"range": [{"begin": taken, "end": taken}]})
    assert list(agent.containers()) == ["honest"]


@pytest.mark.parametrize("offers", [True, False])
def test_the_ports_of_the_agents_resources(agent: AgentProcess, offers: bool) -> None:
    """Are those that an agent offers; one that offers none lets containers listen where they want."""
    port = free_port()
    flags = ("--check_agent_port_range_only", "--enforce_container_ports", "--container_ports_watch_interval=50ms")
    resources = f"--resources=ports:[{f'{port}-{port}' if offers else ''}]"
    agent.start(*flags, resources, isolation=ISOLATION)
    assert agent.launch("web", listener(port)).status == 200
    if offers:
        assert agent.wait_for("web")["reason"] == "REASON_CONTAINER_LIMITATION"
        return
    time.sleep(0.3)  # Some looks, of which nobody hears anything.
    assert list(agent.containers()) == ["web"]


def test_sockets_are_found_by_their_processes() -> None:
    """Of the same process, and of another one that has it, too."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        inode, port = os.fstat(server.fileno()).st_ino, server.getsockname()[1]
        assert socket_diagnosis.listening()[inode] == port
        assert os.fstat(other.fileno()).st_ino not in socket_diagnosis.listening(), "it is no TCP"
        assert inode in set(ports._sockets_of(os.getpid()))
        with subprocess.Popen(["sleep", "60"], pass_fds=[server.fileno()]) as process:
            assert inode in set(ports._sockets_of(process.pid))
            process.kill()
    assert inode not in socket_diagnosis.listening()


def test_ranges_are_told_as_such() -> None:
    assert ports._ranges([1, 2, 3, 7, 9, 10]) == ((1, 3), (7, 7), (9, 10))


def test_two_answers_to_one_question(flags: Flags) -> None:
    both = replace(flags, check_agent_port_range_only=True, container_ports_isolated_range=((1, 2),))
    with pytest.raises(FlagError, match="both say which ports are looked at"):
        PortsIsolator.create(both)
