"""`linux/devices`: devices of the host in the /dev of a container with a root file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},linux/devices,cgroups/devices"
CONTROL = Path("/dev/loop-control")
LOOK = """
ls -l /dev | grep loop-control | cut -c 1-10
: < /dev/loop-control && echo read
: >> /dev/loop-control && echo written
"""


@pytest.fixture(autouse=True)
def control() -> None:
    if not CONTROL.exists():
        pytest.skip(f"no {CONTROL} here")


def allowing(path: Path, **access: bool) -> dict[str, Any]:
    return {"allowed_devices": [{"device": {"path": str(path)}, "access": access}]}


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        ({"read": True}, "crw-r--r--\nread"),
        ({"read": True, "write": True, "mknod": True}, "crw-rw-rw-\nread\nwritten"),
        ({"mknod": True}, "crw-------"),
    ],
)
@pytest.mark.parametrize("user", ["1000:1000", None])
async def test_device(launch: Launch, rootfs: Path, access: dict[str, bool], expected: str, user: str | None) -> None:
    """With the same permissions for every user: root is refused by the cgroup what others are by the mode."""
    launch.containerizer(ISOLATION, allowed_devices=allowing(CONTROL, **access))
    container = await launch(LOOK, isolation=ISOLATION, rootfs=rootfs, user=user)
    await container.wait()
    assert container.stream().strip() == expected


async def test_without_it(launch: Launch, rootfs: Path) -> None:
    """The cgroup alone makes no node; without a root file system there is the host's."""
    launch.containerizer(f"{LINUX},cgroups/devices", allowed_devices=allowing(CONTROL, read=True))
    container = await launch(LOOK, rootfs=rootfs)
    await container.wait()
    assert container.stream() == ""
    assert await launch.output(": < /dev/loop-control && echo read") == "read"


async def test_nested_containers(launch: Launch, rootfs: Path) -> None:
    launch.containerizer(ISOLATION, allowed_devices=allowing(CONTROL, read=True))
    outer = await launch.sleeping(isolation=ISOLATION)
    await launch.successor()
    nested = await launch(LOOK, isolation=ISOLATION, parent=outer, rootfs=rootfs)
    await nested.wait()
    assert nested.stream() == "crw-r--r--\nread\n"


@pytest.fixture
def deeper() -> Iterator[Path]:
    """A device in a directory of /dev, other than those that every container has."""
    for path in Path("/dev").glob("*/*"):
        if path.is_char_device() and path.parent.name not in ("pts", "shm", "fd"):
            yield path
            return
    pytest.skip("no device in a directory here")


async def test_in_a_directory_and_in_place_of_another(launch: Launch, rootfs: Path, deeper: Path) -> None:
    entries = [
        *allowing(deeper, read=True)["allowed_devices"],
        *allowing(Path("/dev/null"), read=True)["allowed_devices"],
    ]
    launch.containerizer(ISOLATION, allowed_devices={"allowed_devices": entries})
    output = await launch.output(f"ls -l {deeper} /dev/null | cut -c 1-10", isolation=ISOLATION, rootfs=rootfs)
    assert output == "crw-r--r--\ncrw-r--r--"
