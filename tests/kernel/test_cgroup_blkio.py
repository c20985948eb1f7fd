"""`cgroups/blkio`: bytes and operations that the kernel has counted after I/O that no cache has served."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo
from mesocosm.isolators.cgroups.blkio import BlkioIsolator
from tests.kernel.cgroup_support import created
from tests.launching import LINUX, Launch, Started

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/blkio"
OWN = LinuxInfo(share_cgroups=False)
BLOCK = 4096


@pytest.fixture
def disk(launch: Launch, run_directory: Path) -> Iterator[str]:
    """A loop device."""
    created(BlkioIsolator, launch.flags)
    file = run_directory / "disk"
    file.write_bytes(bytes(1 << 20))
    command = ["losetup", "--show", "--find", str(file)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def moving(disk: str) -> str:
    """Reads three blocks and writes five, past the page cache; then waits."""
    return (
        f"dd if={disk} of=/dev/null bs={BLOCK} count=3 iflag=direct && "
        f"dd if=/dev/zero of={disk} bs={BLOCK} count=5 oflag=direct conv=notrunc && echo done; read -r end"
    )


async def counted(container: Started, disk: str) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes and operations on the disk, by kind."""
    usage = await container.containerizer.usage(container.container_id)
    assert usage.blkio_statistics is not None
    device = 7, int(disk.removeprefix("/dev/loop"))
    found = [each for each in usage.blkio_statistics if each.device == device]
    total = usage.blkio_statistics[-1]
    assert total.device is None
    assert total.io_service_bytes["TOTAL"] >= sum(each.io_service_bytes["TOTAL"] for each in found)
    return (dict(found[0].io_service_bytes), dict(found[0].io_serviced)) if found else ({}, {})


async def test_bytes_and_operations(launch: Launch, disk: str) -> None:
    idle = await launch.sleeping(isolation=ISOLATION)
    busy = await launch.talking(moving(disk), isolation=ISOLATION)
    assert await busy.line() == "done"
    amounts, operations = await counted(busy, disk)
    assert (amounts["READ"], amounts["WRITE"], amounts["TOTAL"]) == (3 * BLOCK, 5 * BLOCK, 8 * BLOCK)
    assert (operations["READ"], operations["WRITE"], operations["TOTAL"]) == (3, 5, 8)
    assert (await counted(idle, disk))[0].get("TOTAL", 0) == 0
    containerizer = await launch.successor()
    busy.containerizer = containerizer
    assert await counted(busy, disk) == (amounts, operations)


async def test_nested_containers(launch: Launch, disk: str) -> None:
    """One with a cgroup of its own has its own numbers, and they are its parent's, too."""
    outer = await launch.sleeping(isolation=ISOLATION)
    inner = await launch.talking(moving(disk), isolation=ISOLATION, parent=outer, linux_info=OWN)
    assert await inner.line() == "done"
    assert await counted(inner, disk) == await counted(outer, disk)
    assert (await counted(inner, disk))[0]["TOTAL"] == 8 * BLOCK
    shared = await launch.sleeping(isolation=ISOLATION, parent=outer)
    assert (await shared.containerizer.usage(shared.container_id)).blkio_statistics is None
