"""`filesystem/linux`: what a container sees of the host's files, what it can change of them, and where mounts go."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import Tmpfs, Volume
from mesocosm.errors import ContainerError
from tests.launching import Launch
from tests.mounts import is_mounted, mount_tmpfs, unmount

pytestmark = pytest.mark.kernel
MB = 1 << 20


# The mount namespace.


@pytest.mark.parametrize("isolation", ["filesystem/linux", "filesystem/posix"])
async def test_mounts_made_inside_stay_inside(launch: Launch, shared_mount: Path, isolation: str) -> None:
    point = shared_mount / "point"
    container = await launch(f"mount -t tmpfs none {point} && touch {point}/made", isolation=isolation)
    assert await container.wait() == 0, container.stream("stderr")
    assert is_mounted(point) is (isolation == "filesystem/posix")


async def test_mounts_made_on_the_host_arrive(launch: Launch, shared_mount: Path) -> None:
    point = shared_mount / "point"
    container = await launch.talking(f"echo up; read -r go; ls {point}", isolation="filesystem/linux")
    await container.line()
    mount_tmpfs(point)
    (point / "new").touch()
    container.say("go")
    assert await container.line() == "new"


async def test_a_host_directory_can_be_unmounted_meanwhile(launch: Launch, shared_mount: Path) -> None:
    point = shared_mount / "point"
    mount_tmpfs(point)
    container = await launch.talking(f"echo up; read -r go; grep -c {point} /proc/mounts", isolation="filesystem/linux")
    await container.line()
    unmount(point)
    container.say("go")
    assert await container.line() == "0"


# The root filesystem.


async def test_a_read_only_root_filesystem(launch: Launch, writable_rootfs: Path) -> None:
    script = "touch /made 2>/dev/null && echo written; touch /mnt/mesos/sandbox/made /dev/shm/made"
    assert await launch.output(script, rootfs=writable_rootfs) == "written"
    (writable_rootfs / "made").unlink()
    assert await launch.output(script, rootfs=writable_rootfs, rootfs_read_only=True) == ""
    assert not (writable_rootfs / "made").exists()


async def test_a_root_filesystem_that_is_none(launch: Launch, run_directory: Path) -> None:
    (run_directory / "file").touch()
    for path in (run_directory / "missing", run_directory / "file"):
        with pytest.raises(ContainerError, match=str(path)):
            await launch("true", rootfs=path)


async def test_an_empty_root_filesystem(launch: Launch, run_directory: Path) -> None:
    empty = run_directory / "empty"
    empty.mkdir()
    with pytest.raises(ContainerError, match="not found"):
        await launch("true", rootfs=empty)


async def test_the_root_of_the_host_as_root_filesystem(launch: Launch) -> None:
    script = "ls -d /usr; [ $(stat -c %t:%T /dev/null) = 1:3 ] && cat /proc/1/comm >/dev/null && pwd"
    assert (await launch.output(script, rootfs=Path("/usr/.."))).splitlines()[0] == "/usr"


@pytest.mark.parametrize(
    "options", [{"rootfs": Path("/usr")}, {"volumes": (Volume("/mnt", "/usr"),)}, {"tmpfs": (Tmpfs("x"),)}]
)
async def test_filesystem_posix_refuses_mounts(launch: Launch, options: dict[str, object]) -> None:
    with pytest.raises(ContainerError, match="filesystem/linux"):
        await launch("true", isolation="filesystem/posix", **options)


# tmpfs.


async def test_a_tmpfs_on_a_file(launch: Launch, writable_rootfs: Path) -> None:
    with pytest.raises(ContainerError, match=r": mount tmpfs on /etc/hostname failed: Not a directory$"):
        await launch("true", rootfs=writable_rootfs, tmpfs=(Tmpfs("/etc/hostname"),))


async def test_tmpfs(launch: Launch, writable_rootfs: Path) -> None:
    tmpfs = (Tmpfs("/scratch", 2 * MB), Tmpfs("own"))
    script = "dd if=/dev/zero of=/scratch/x bs=1M 2>/dev/null; stat -c %s /scratch/x; stat -c %a /scratch own"
    container = await launch(script, rootfs=writable_rootfs, tmpfs=tmpfs)
    assert await container.wait() == 0
    assert container.stream().split() == [str(2 * MB), "1777", "1777"]
    assert list((writable_rootfs / "scratch").iterdir()) == []
    assert list((container.sandbox / "own").iterdir()) == []


@pytest.mark.parametrize("size", [0, -1])
async def test_a_tmpfs_of_no_size(launch: Launch, size: int) -> None:
    """To the kernel, 0 means without a limit."""
    with pytest.raises(ContainerError):
        await launch("true", tmpfs=(Tmpfs("x", size),))
