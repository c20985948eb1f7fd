"""What a container's root tries against its cgroups and the host's devices, and what would give him the means."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import LinuxInfo, Resources
from mesocosm.linux import cgroup
from mesocosm.oneshot.security import for_image
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
SECRET = "secret of the host"
WITHOUT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "MKNOD", "SETGID", "SETUID", "SYS_CHROOT")
"""Capabilities of a root that may do much, but not mount."""
# Mounts a hierarchy with the limit of tasks, of whichever version, and lifts its own.
LIFT = """
mkdir -p group
mount -t cgroup -o pids none group 2> error || mount -t cgroup2 none group 2> error || { cat error >&2; exit 1; }
own=$(sed -n 's/^[0-9]*:pids://p' /proc/self/cgroup)
[ -n "$own" ] || own=$(sed -n 's/^0:://p' /proc/self/cgroup)/..
echo max > group$own/pids.max && cat group$own/pids.max
umount group
"""
# CVE-2022-0492: what the kernel executes, as root of the host, when a cgroup is empty.
RELEASE = """
mkdir -p group
mount -t cgroup -o none,name={name} none group || exit 1
echo /bin/false > group/release_agent && cat group/release_agent
umount group
"""


@pytest.fixture
def disk(run_directory: Path) -> Iterator[int]:
    """The number of a loop device with the host's secret on it."""
    file = run_directory / "disk"
    file.write_bytes(f"{SECRET}\n".encode().ljust(1 << 20, b"\0"))
    command = ["losetup", "--show", "--find", str(file)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield int(device.removeprefix("/dev/loop"))
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.parametrize(("isolation", "expected"), [(f"{LINUX},cgroups/devices", ""), (LINUX, SECRET)])
async def test_a_disk_of_the_host(
    launch: Launch, writable_rootfs: Path, disk: int, isolation: str, expected: str
) -> None:
    """Its node can be made, but opened only without the isolator; nor can it be mounted."""
    script = f"mknod /disk b 7 {disk} && head -n 1 /disk; mkdir /on; mount -t ext2 /disk /on"
    container = await launch(script, isolation=isolation, rootfs=writable_rootfs)
    assert await container.wait() != 0
    assert container.stream().strip() == expected
    assert ("not permitted" in container.stream("stderr")) == (not expected)


@pytest.mark.parametrize(("devices", "expected"), [(True, "made\n"), (False, "")])
async def test_a_disk_of_the_host_for_root_in_an_image(
    launch: Launch, writable_rootfs: Path, disk: int, *, devices: bool, expected: str
) -> None:
    """It may make nodes where it cannot open them, and only there; the control is above."""
    isolation = f"{LINUX},linux/capabilities" + (",cgroups/devices" if devices else "")
    info = replace(for_image(), profile=None).apply(LinuxInfo(), isolation.split(","))
    script = f"mknod /dev/disk b 7 {disk} && echo made; head -n 1 /dev/disk"
    container = await launch(script, isolation=isolation, rootfs=writable_rootfs, linux_info=info)
    assert await container.wait() != 0
    assert container.stream() == expected


ATTACKERS = {
    "user": ({"user": "1000:1000"}, False),
    "root without SYS_ADMIN": (
        {"linux_info": LinuxInfo(bounding_capabilities=WITHOUT, effective_capabilities=WITHOUT)},
        False,
    ),
    "root": ({}, True),
}
attackers = pytest.mark.parametrize(("attacker", "succeeds"), ATTACKERS.values(), ids=ATTACKERS)


@attackers
async def test_lifting_a_limit(launch: Launch, rootfs: Path, attacker: dict[str, Any], succeeds: bool) -> None:
    """It takes CAP_SYS_ADMIN, which no user has; a root with all capabilities has it, as docs/security.md says."""
    if cgroup.hierarchy("pids") is None:
        pytest.skip("no pids controller here")
    isolation = f"{LINUX},cgroups/pids,linux/capabilities"
    container = await launch(LIFT, isolation=isolation, rootfs=rootfs, resources=Resources(pids=20), **attacker)
    assert (await container.wait() == 0) == succeeds, container.stream("stderr")
    assert container.stream() == ("max\n" if succeeds else "")


@attackers
async def test_release_agent(
    launch: Launch, rootfs: Path, unique_name: str, attacker: dict[str, Any], succeeds: bool
) -> None:
    """The same for a program that the kernel would execute, in a hierarchy of the attacker's own."""
    script = RELEASE.format(name=unique_name)
    container = await launch(script, isolation=f"{LINUX},linux/capabilities", rootfs=rootfs, **attacker)
    assert (await container.wait() == 0) == succeeds, container.stream("stderr")
    assert container.stream() == ("/bin/false\n" if succeeds else "")
