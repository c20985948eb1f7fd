"""What a container's root tries against its cgroups and the host's devices, and what would give him the means."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import Resources
from mesocosm.linux import cgroup
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
SECRET = "secret of the host"
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


@pytest.mark.parametrize(("user", "lifts"), [("1000:1000", False), (None, True)])
async def test_lifting_a_limit(launch: Launch, rootfs: Path, user: str | None, lifts: bool) -> None:
    """It takes CAP_SYS_ADMIN, which no user has; a root with all capabilities has it, as docs/security.md says."""
    if cgroup.hierarchy("pids") is None:
        pytest.skip("no pids controller here")
    container = await launch(
        LIFT, isolation=f"{LINUX},cgroups/pids", rootfs=rootfs, user=user, resources=Resources(pids=20)
    )
    assert (await container.wait() == 0) == lifts, container.stream("stderr")
    assert container.stream() == ("max\n" if lifts else "")


@pytest.mark.parametrize(("user", "written"), [("1000:1000", False), (None, True)])
async def test_release_agent(launch: Launch, rootfs: Path, unique_name: str, user: str | None, written: bool) -> None:
    """The same for a program that the kernel would execute, in a hierarchy of the attacker's own."""
    container = await launch(RELEASE.format(name=unique_name), rootfs=rootfs, user=user)
    assert (await container.wait() == 0) == written, container.stream("stderr")
    assert container.stream() == ("/bin/false\n" if written else "")
