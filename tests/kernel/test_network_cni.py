"""`network/cni` with the plugins of Debian: what a container sees, what the host sees, and that nothing stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesocosm.container import NetworkInfo, PortMapping
from mesocosm.flags import Flags
from tests.launching import LINUX, Launch
from tests.networks import GATEWAY, Networks, networks_in

pytestmark = pytest.mark.kernel

BLUE = (NetworkInfo("blue"),)
LISTENING = "until grep -q ':1F40 .* 0A ' /proc/net/tcp*; do :; done"
SERVE = f"busybox nc -l -p 8000 -e echo hello & {LISTENING}; echo up; read -r end"


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
    assert await launch.output(f"busybox nc -w 5 {address.ip_address} 8000", network_infos=BLUE) == "hello"
    other = await launch.talking(SERVE, network_infos=(NetworkInfo("blue", port_mappings=(PortMapping(8081, 8000),)),))
    assert await other.line() == "up"
    assert blue.on_host("busybox", "nc", "-w", "5", GATEWAY, "8081") == "hello\n"
    assert len(blue.state()["links"]) == len(blue.state()["leases"]) == 2
    usage = await launch.containerizer().usage(server.container_id)
    assert usage.net_rx_bytes
    assert usage.net_tx_packets
    await server.destroy()
    await other.destroy()
