"""`disk/xfs` against containers that fill their sandboxes, on an XFS of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import v1
from mesocosm.container import ImageRequest, PersistentVolume, Resources
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.images.backends.overlay import OverlayBackend
from mesocosm.isolators.disk.xfs import XfsIsolator
from mesocosm.linux import xfs
from tests.image_store import DirectoryStore, image
from tests.launching import LINUX, TIMEOUT, Launch, Started
from tests.task_agent import Master, command_task, running_agent, task_info

pytestmark = pytest.mark.kernel
MB = 1 << 20
ISOLATION = f"{LINUX},disk/xfs"
SIZE = 320 * MB
"""The least that mkfs.xfs takes."""
FULL = "No space left on device"
"""What the kernel says of a project quota (xfs_trans_dqresv in fs/xfs/xfs_trans_dquot.c); of others, EDQUOT."""
FILL = "{{ head -c $((65536 * {1})) /dev/zero 2>&1 > {0} && echo copied; }}"
"""Writes so many blocks of 64 KB to a file, and says whether they are written or why not."""
VOLUME = PersistentVolume("id1", "role1", 2 * MB, "data")


@contextlib.contextmanager
def mounted(directory: Path, options: str, *made: str) -> Iterator[Path]:
    """A new XFS in a file, mounted with these options, and made with others."""
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("needs xfsprogs")
    image, mount = directory / f"image-{options}", directory / f"xfs-{options}"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.xfs", "-q", *made, str(image)], check=True, stderr=subprocess.DEVNULL)
    done = subprocess.run(["mount", "-o", f"loop,{options}", image, mount], check=False, capture_output=True, text=True)
    if done.returncode:
        mount.rmdir()
        pytest.skip(f"this kernel cannot mount it: {done.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.fixture
def volume(run_directory: Path) -> Iterator[Path]:
    with mounted(run_directory, "pquota") as path:
        yield path


@pytest.fixture
def flags(run_directory: Path, cgroups_root: str, volume: Path) -> Flags:
    """The work directory is on that XFS."""
    return Flags(
        work_dir=volume / "work",
        runtime_dir=run_directory / "run",
        cgroups_root=cgroups_root,
        enforce_container_disk_quota=True,
    )


def isolator_of(container: Started) -> XfsIsolator:
    [found] = [each for each in container.containerizer._isolation if isinstance(each, XfsIsolator)]
    return found


def report(mount: Path) -> dict[int, tuple[int, int, int]]:
    """What xfs_quota(8) shows of each project: used, soft and hard limit, in KB."""
    command = ["xfs_quota", "-x", "-c", "report -p -a -n", str(mount)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = (re.match(r"#(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", line) for line in lines)
    return {int(row[1]): (int(row[2]), int(row[3]), int(row[4])) for row in rows if row}


def attributes(directory: Path) -> str:
    """What xfs_io(8) shows of a directory."""
    command = ["xfs_io", "-r", "-c", "stat", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_writes_beyond_the_allocation_fail_and_the_task_goes_on(launch: Launch, volume: Path) -> None:
    script = f"{FILL.format('file', 64)}; {FILL.format('more', 16)}; echo goes on; read -r end"
    container = await launch.talking(script, isolation=ISOLATION, resources=Resources(disk=2 * MB))
    assert FULL in await container.line()
    assert FULL in await container.line()
    assert await container.line() == "goes on"
    usage = await container.containerizer.usage(container.container_id)
    assert usage.disk_limit_bytes == 2 * MB
    assert usage.disk_used_bytes is not None
    assert MB < usage.disk_used_bytes <= 2 * MB
    project = xfs.project_of(container.sandbox)
    assert project == 5000
    assert report(volume)[project] == (usage.disk_used_bytes // 1024, 2048, 2048)
    assert "fsxattr.projid = 5000" in attributes(container.sandbox)
    container.say("end")
    assert await container.wait() == 0


@pytest.mark.parametrize("options", [{"enforce_container_disk_quota": False}, {}])
async def test_with_accounting_only_more_may_be_used(launch: Launch, volume: Path, options: dict[str, bool]) -> None:
    """Also where nothing was asked for: the control."""
    launch.containerizer(ISOLATION, **options)
    asked = Resources(disk=2 * MB) if options else Resources()
    script = f"{FILL.format('file', 64)}; read -r end"
    container = await launch.talking(script, isolation=ISOLATION, resources=asked)
    assert "copied" in await container.line()
    usage = await container.containerizer.usage(container.container_id)
    assert usage.disk_used_bytes is not None
    assert usage.disk_used_bytes >= 4 * MB
    assert usage.disk_limit_bytes == (2 * MB if options else None)
    assert report(volume)[5000][1:] == (0, 0)
    container.say("end")
    assert await container.wait() == 0


async def test_a_container_that_uses_too_much_is_killed_if_so_flagged(launch: Launch, volume: Path) -> None:
    launch.containerizer(
        ISOLATION, xfs_kill_containers=True, xfs_quota_headroom=20 * MB, container_disk_watch_interval=0.05
    )
    script = f"{FILL.format('file', 48)}; read -r end"
    container = await launch.talking(script, isolation=ISOLATION, resources=Resources(disk=2 * MB))
    termination = await container.termination()
    assert (termination.exit_status, termination.reason) == (137, "REASON_CONTAINER_LIMITATION_DISK")
    assert termination.message is not None
    assert termination.message.endswith(f"exceeds quota (2MB) in '{container.sandbox}'")
    assert report(volume)[5000][1:] == (2048, 2048 + 20 * 1024)


@pytest.mark.parametrize("kills", [False, True])
async def test_a_persistent_volume_has_a_project_of_its_own(launch: Launch, volume: Path, *, kills: bool) -> None:
    launch.containerizer(ISOLATION, xfs_kill_containers=kills, container_disk_watch_interval=0.05)
    script = f"{FILL.format('data/file', 64)}; read -r end"
    container = await launch.talking(
        script, isolation=ISOLATION, resources=Resources(disk=16 * MB), persistent_volumes=(VOLUME,)
    )
    if kills:
        message = (await container.termination()).message
        assert message is not None
        assert "exceeds quota (2MB) for volume 'id1'" in message
        return
    assert FULL in await container.line()
    usage = await container.containerizer.usage(container.container_id)
    assert usage.disk_statistics is not None
    [data, sandbox] = usage.disk_statistics
    assert (data.id, data.limit_bytes, sandbox.limit_bytes) == ("id1", 2 * MB, 16 * MB)
    assert (data.used_bytes or 0) > MB > (sandbox.used_bytes or 0)
    await container.destroy()


async def test_a_nested_container_counts_for_its_parent(launch: Launch) -> None:
    parent = await launch.sleeping(isolation=ISOLATION, resources=Resources(disk=2 * MB))
    nested = await launch.talking(FILL.format("file", 64), parent=parent)
    assert FULL in await nested.line()
    assert await nested.wait() == 1
    assert xfs.project_of(nested.sandbox) == xfs.project_of(parent.sandbox)
    await parent.destroy()


async def test_what_is_changed_of_images_counts_with_the_sandbox(
    launch: Launch, rootfs: Path, store: DirectoryStore
) -> None:
    """Also in a container that is nested. The control is its sandbox, where there is no room then either."""
    store.add(image("box", rootfs))
    isolation = f"{ISOLATION},docker/runtime"
    launch.containerizer(isolation, image_providers=("docker",), image_provisioner_backend="overlay")
    options: dict[str, Any] = {"isolation": isolation, "image": ImageRequest("box")}
    script = f"{FILL.format('/file', 16)}; read -r go; {FILL.format('/more', 64)}; read -r end"
    parent = await launch.talking(script, resources=Resources(disk=4 * MB), **options)
    assert "copied" in await parent.line()
    script = f"echo up; read -r go; {FILL.format('/file', 4)}; {FILL.format('file', 4)}"
    nested = await launch.talking(script, parent=parent, **options)
    assert await nested.line() == "up"
    parent.say("go")
    assert "error" in await parent.line(), "this program does not say which one"
    nested.say("go")
    assert FULL in await nested.line()
    assert FULL in await nested.line()
    usage = await parent.containerizer.usage(parent.container_id)
    assert MB < (usage.disk_used_bytes or 0) <= 4 * MB
    await parent.destroy()


async def test_update_changes_the_quota(launch: Launch, volume: Path) -> None:
    script = f"read -r go; {FILL.format('file', 64)}; read -r end"
    container = await launch.talking(script, isolation=ISOLATION, resources=Resources(disk=2 * MB))
    await container.containerizer.update(container.container_id, Resources(disk=8 * MB), Resources())
    assert report(volume)[5000][1:] == (8192, 8192)
    container.say("go")
    assert "copied" in await container.line()
    await container.destroy()


async def test_projects_come_back_when_their_sandbox_is_gone(launch: Launch, volume: Path) -> None:
    launch.containerizer(ISOLATION, disk_watch_interval=0.05, xfs_project_range="[7000-7001]")
    first = await launch("true", isolation=ISOLATION, resources=Resources(disk=2 * MB))
    await first.wait()
    second = await launch("true", isolation=ISOLATION, resources=Resources(disk=2 * MB))
    await second.wait()
    free, total = (
        first.containerizer.gauges()[f"containerizer/mesos/disk/project_ids_{name}"] for name in ("free", "total")
    )
    assert (free(), total()) == (0, 2)
    with pytest.raises(ContainerError, match="all 2 projects of --xfs_project_range are in use; widen it"):
        await launch("true", isolation=ISOLATION)
    await first.containerizer.remove(first.container_id)
    deadline = time.monotonic() + TIMEOUT
    while not free():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert report(volume).get(7000, (0, 0, 0)) == (0, 0, 0)
    third = await launch("true", isolation=ISOLATION)
    await third.wait()
    assert (xfs.project_of(second.sandbox), xfs.project_of(third.sandbox)) == (7001, 7000)


async def test_projects_are_read_back_after_a_restart(launch: Launch) -> None:
    """Of containers that run, of those that have ended, and of none that was launched without the isolator."""
    ended = await launch("true", isolation=ISOLATION)
    await ended.wait()
    running = await launch.talking(
        f"read -r go; {FILL.format('file', 64)}; read -r end", isolation=ISOLATION, resources=Resources(disk=2 * MB)
    )
    running.containerizer = await launch.successor()
    assert isolator_of(running)._projects.free == 5001 - 2
    another = await launch("true")
    await another.wait()
    assert [xfs.project_of(each.sandbox) for each in (ended, running, another)] == [5000, 5001, 5002]
    running.say("go")
    assert FULL in await running.line()
    await running.destroy()


async def test_projects_of_tasks_are_read_back_after_a_restart(flags: Flags) -> None:
    """Of one that runs, and of one that has ended and whose sandbox is kept for a while."""

    async def projects(master: Master) -> tuple[int, float, float]:
        """The executor's project, how many are free, and what of its use is not in its files, to which it adds."""
        container, directory = master.agent.containerizer, master.executor().directory
        used = (await container.usage(master.executor().container_id)).disk_used_bytes or 0
        allocated = 512 * sum(path.lstat().st_blocks for path in directory.rglob("*"))
        assert allocated > 0
        free = container.gauges()["containerizer/mesos/disk/project_ids_free"]()
        return xfs.project_of(directory), free, used - allocated

    async with running_agent(flags, destroys=False, isolation=ISOLATION) as before:
        before.run(command_task("ended", "true"), checkpoint=True)
        await before.update("ended", v1.TASK_FINISHED)
        before.run(task_info("runs"), checkpoint=True)
        await before.update("runs", v1.TASK_RUNNING)
        known = await projects(before)
    async with running_agent(flags, port=before.agent.tasks.registration.address.port, isolation=ISOLATION) as master:
        assert await projects(master) == known
        assert known[1:] == (5001 - 2, 0)


async def test_a_container_of_before_gets_a_project_when_the_isolator_is_new(launch: Launch) -> None:
    script = f"{FILL.format('file', 16)}; read -r go; {FILL.format('more', 64)}; read -r end"
    container = await launch.talking(script, isolation=LINUX, resources=Resources(disk=4 * MB))
    assert "copied" in await container.line()
    container.containerizer = await launch.successor(isolation=ISOLATION)
    usage = await container.containerizer.usage(container.container_id)
    assert (usage.disk_used_bytes or 0) >= MB, "what was there belongs to it"
    container.say("go")
    assert FULL in await container.line()
    await container.destroy()


async def test_one_of_before_that_uses_too_much_is_killed_if_so_flagged(launch: Launch) -> None:
    script = f"{FILL.format('file', 64)}; read -r end"
    container = await launch.talking(script, isolation=LINUX, resources=Resources(disk=2 * MB))
    assert "copied" in await container.line()
    container.containerizer = await launch.successor(
        isolation=ISOLATION, xfs_kill_containers=True, container_disk_watch_interval=0.05
    )
    assert (await container.termination()).reason == "REASON_CONTAINER_LIMITATION_DISK"


async def test_what_stays_in_use_of_one_that_is_not_known_any_more(
    launch: Launch, rootfs: Path, store: DirectoryStore
) -> None:
    """The projects of its sandbox and its volume, which are there still; its root file system is not."""
    store.add(image("box", rootfs))
    isolation = f"{ISOLATION},docker/runtime"
    launch.containerizer(isolation, image_providers=("docker",), image_provisioner_backend="overlay")
    options: dict[str, Any] = {"image": ImageRequest("box"), "persistent_volumes": (VOLUME,)}
    container = await launch.sleeping(isolation=isolation, resources=Resources(disk=4 * MB), **options)
    successor = await launch.successor(recover=False)
    await successor.recover(())
    gauges = successor.gauges()
    total, free = (gauges[f"containerizer/mesos/disk/project_ids_{name}"]() for name in ("total", "free"))
    assert total - free == 2
    assert container.container_id not in await successor.containers()
    assert xfs.project_of(container.sandbox) == 5001
    assert xfs.project_of(launch.flags.work_dir / "volumes/roles/role1/id1") == 5000
    assert not list((launch.flags.work_dir / "provisioner").glob("containers/*"))


async def test_beside_du(launch: Launch) -> None:
    script = f"{FILL.format('file', 64)}; read -r end"
    both = f"{ISOLATION},disk/du"
    container = await launch.talking(script, isolation=both, resources=Resources(disk=2 * MB))
    assert FULL in await container.line()
    container.say("end")
    assert await container.wait() == 0


ESCAPE = """
import fcntl, os, struct, sys
descriptor = os.open(".", os.O_RDONLY)
values = bytearray(fcntl.ioctl(descriptor, 0x801C581F, bytes(28)))
values[12:16] = bytes(4)
values[0:4] = struct.pack("I", struct.unpack("I", values[:4])[0] & ~0x200)
try:
    fcntl.ioctl(descriptor, 0x401C5820, bytes(values))
except OSError as error:
    print(error.strerror)
else:
    print("escaped")
"""


async def test_who_may_leave_a_project(launch: Launch) -> None:
    """The owner of a file can, but not in a user namespace of its own: docs/isolators/disk-xfs.md tells of it."""
    command = ["/usr/bin/python3", "-c", ESCAPE]
    container = await launch(["unshare", "--user", "--map-root-user", *command], isolation=ISOLATION)
    assert await container.wait() == 0
    assert container.stream() == "Invalid argument\n"
    assert xfs.project_of(container.sandbox) == 5000
    assert await launch.output(command, isolation=ISOLATION) == "escaped"


def test_quotas_of_projects(volume: Path) -> None:
    descriptor = os.open(volume, os.O_RDONLY)
    try:
        assert xfs.state(descriptor) == xfs.QuotaState(accounts=True, enforces=True)
        xfs.set_quota(descriptor, 77, MB, 2 * MB)
        assert xfs.quota(descriptor, 77) == xfs.Quota(0, 0, MB, 2 * MB)
        xfs.set_quota(descriptor, 77, 1, MB + 1)
        assert xfs.quota(descriptor, 77) == xfs.Quota(0, 0, 4096, MB + 4096), "whole blocks, and no less than asked for"
        xfs.set_quota(descriptor, 77, 0, 0)
        assert xfs.quota(descriptor, 77) == xfs.Quota(0, 0, 0, 0)
        with pytest.raises(OSError, match="quotactl_fd"):
            xfs.set_quota(-1, 77, MB, MB)
    finally:
        os.close(descriptor)


def test_the_project_of_a_tree(volume: Path) -> None:
    for name in ("one", "one/two", "one/two/three"):
        (volume / name).mkdir()
        (volume / name / "file").touch()
    (volume / "one/link").symlink_to(volume / "outside")
    os.mkfifo(volume / "one/fifo")
    (volume / "outside").mkdir()
    xfs.set_project(volume / "one", 99)
    assert xfs.project_of(volume / "one/two/three") == 99
    (volume / "one/two/new").mkdir()
    assert xfs.project_of(volume / "one/two/new") == 99
    assert xfs.project_of(volume / "outside") == 0
    (volume / "direct").symlink_to(volume / "outside")
    for name in ("direct", "one/link", "one/file", "none"):
        for act in (xfs.project_of, lambda path: xfs.set_project(path, 98)):
            with pytest.raises(OSError, match=r"symbolic links|Not a directory|No such file"):
                act(volume / name)
    assert xfs.project_of(volume / "outside") == 0


@pytest.mark.parametrize("tells_types", [True, False])
def test_an_xfs_for_overlays(run_directory: Path, *, tells_types: bool) -> None:
    """Overlayfs wants to know of a name whether it is a directory, which an XFS of before 2014 does not say."""
    made = ("-n", "ftype=1") if tells_types else ("-m", "crc=0", "-n", "ftype=0")
    with mounted(run_directory, "noquota", *made) as path:
        if tells_types:
            OverlayBackend.create(path)
            return
        with pytest.raises(UnsupportedError, match="does not tell the types of files"):
            OverlayBackend.create(path)


@pytest.mark.parametrize(("options", "works"), [("pqnoenforce", True), ("noquota", False), ("uquota", False)])
def test_how_the_file_system_is_mounted(run_directory: Path, options: str, *, works: bool) -> None:
    with mounted(run_directory, options) as path:
        flags = Flags(work_dir=path / "work")
        if works:
            XfsIsolator.create(flags)
            return
        with pytest.raises(UnsupportedError, match="has no project quotas; put --work_dir on an XFS"):
            XfsIsolator.create(flags)
