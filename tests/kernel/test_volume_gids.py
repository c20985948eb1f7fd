"""`--volume_gid_range`: groups by which users share paths of a sandbox."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from mesocosm.container import PersistentVolume, SandboxOf, SandboxPath, Volume
from mesocosm.errors import ContainerError, RecoveryError
from mesocosm.launcher.operations import HostDirectory
from mesocosm.volume_gids import VolumeGids
from tests.agent_process import AgentProcess, identity
from tests.launching import LINUX, Launch
from tests.rootfs import APP

pytestmark = pytest.mark.kernel
RANGE = ((61000, 61000), (61005, 61006))
SHARED = (Volume("/home", sandbox_path=SandboxPath("shared", SandboxOf.PARENT)),)


@pytest.fixture
def gids(run_directory: Path) -> VolumeGids:
    return VolumeGids(run_directory / "work", RANGE)


@pytest.fixture
def sandbox(run_directory: Path) -> HostDirectory:
    directory = run_directory / "sandbox"
    directory.mkdir()
    os.chown(directory, *APP[:2])
    return HostDirectory(str(directory))


def group_and_mode(path: Path) -> tuple[int, int]:
    return path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)


# Containers.


@pytest.mark.parametrize("ranges", [None, RANGE])
async def test_another_user_may_write(launch: Launch, rootfs: Path, ranges: object) -> None:
    launch.containerizer(LINUX, volume_gid_range=ranges)
    parent = await launch.talking("mkdir shared; echo up; read -r end; ls shared", rootfs=rootfs, user="app")
    await parent.line()
    child = await launch("touch /home/made && id -G", parent=parent, rootfs=rootfs, user="nobody", volumes=SHARED)
    assert (await child.wait() == 0) is (ranges is not None)
    if ranges is not None:
        assert "61000" in child.stream().split()
        assert (parent.sandbox / "shared/made").stat().st_gid == 61000
        assert group_and_mode(parent.sandbox / "shared") == (61000, 0o2775)
        second = await launch("echo x > /home/second", parent=parent, rootfs=rootfs, user="app", volumes=SHARED)
        assert await second.wait() == 0, "its owner needs no group"
    await parent.destroy()
    assert group_and_mode(parent.sandbox / "shared") == (APP[1], 0o755)
    assert VolumeGids(launch.flags.work_dir, RANGE).free() == 3


@pytest.mark.parametrize("isolation", [LINUX, "filesystem/posix"])
async def test_users_share_a_persistent_volume(launch: Launch, isolation: str) -> None:
    """Its group outlives containers and restarts, until it is removed."""
    launch.containerizer(isolation, volume_gid_range=RANGE)
    asked = {"isolation": isolation, "persistent_volumes": (PersistentVolume("id", "role", 1 << 20, "data"),)}
    path = launch.flags.work_dir / "volumes/roles/role/id"
    assert "61000" in (await launch.output("echo one > data/file && id -G", user="nobody", **asked)).split()
    assert await launch.output("cat data/file && echo two > data/other", user="1000:1000", **asked) == "one"
    assert group_and_mode(path) == (61000, 0o2775)
    assert path.stat().st_uid == 0
    assert group_and_mode(path / "other")[0] == 61000
    assert "61000" not in (await launch.output("id -G", **asked)).split(), "root needs none"
    stranger = await launch(f"echo x > {path}/new", isolation=isolation, user="1001:1001")
    assert await stranger.wait() != 0, "who has not got the volume"
    gids = VolumeGids(launch.flags.work_dir, RANGE)
    await launch.successor()
    assert gids.free() == 2
    shutil.rmtree(path)
    await launch.successor()
    assert gids.free() == 3


async def test_root_needs_none(launch: Launch, rootfs: Path) -> None:
    launch.containerizer(LINUX, volume_gid_range=RANGE)
    parent = await launch.sleeping(rootfs=rootfs, user="app")
    assert "61000" not in await launch.output("id -G", parent=parent, rootfs=rootfs, volumes=SHARED)
    assert VolumeGids(launch.flags.work_dir, RANGE).free() == 3


async def test_after_a_restart(launch: Launch, rootfs: Path) -> None:
    launch.containerizer(LINUX, volume_gid_range=RANGE)
    parent = await launch.sleeping(rootfs=rootfs, user="app")
    lost = await launch.sleeping(rootfs=rootfs, user="app")
    for top in (parent, lost):
        assert await (await launch("true", parent=top, rootfs=rootfs, user="nobody", volumes=SHARED)).wait() == 0
    gids = VolumeGids(launch.flags.work_dir, RANGE)
    assert gids.free() == 1
    successor = await launch.successor(recover=False)
    await successor.recover({parent.container_id})
    assert gids.free() == 2
    assert group_and_mode(lost.sandbox / "shared")[0] == APP[1]
    output = await launch.output("id -G", parent=parent, rootfs=rootfs, user="nobody", volumes=SHARED)
    assert "61000" in output.split()
    await successor.destroy(parent.container_id)
    assert gids.free() == 3


async def test_when_all_are_in_use(launch: Launch, rootfs: Path) -> None:
    launch.containerizer(LINUX, volume_gid_range=((61000, 61000),))
    parent = await launch.sleeping(rootfs=rootfs, user="app")
    other = (Volume("/home", sandbox_path=SandboxPath("other", SandboxOf.PARENT)),)
    await launch("true", parent=parent, rootfs=rootfs, user="nobody", volumes=SHARED)
    with pytest.raises(ContainerError, match="every group of --volume_gid_range is in use"):
        await launch("true", parent=parent, rootfs=rootfs, user="nobody", volumes=other)


def test_the_agent_counts_them(agent: AgentProcess, rootfs: Path) -> None:
    agent.start("--volume_gid_range=[61000-61003]", isolation="filesystem/linux,namespaces/pid")
    assert agent.launch("pod", "sleep 60").status == 200
    source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "shared"}}
    volumes = [{"mode": "RW", "container_path": "shared", "source": source}]
    answer = agent.call(
        "LAUNCH_CONTAINER",
        container_id=identity("kid", "pod"),
        command={"value": "touch shared/made", "user": "nobody"},
        container={"type": "MESOS", "volumes": volumes},
    )
    assert answer.status == 200, answer.text
    assert agent.wait_for("kid", nested_in="pod")["exit_status"] == 0
    numbers = json.loads(agent.get("/metrics/snapshot").text)
    assert numbers["volume_gid_manager/volume_gids_total"] == 4
    assert numbers["volume_gid_manager/volume_gids_free"] == 3


# What is changed, and what is not.


def test_everything_in_it_gets_the_group_but_what_has_other_names(
    gids: VolumeGids, sandbox: HostDirectory, run_directory: Path
) -> None:
    outside, volume = run_directory / "outside", Path(sandbox.directory) / "v"
    (volume / "deep").mkdir(parents=True)
    for path in (outside, volume / "deep/file"):
        path.touch(mode=0o640)
    (volume / "hard").hardlink_to(outside)
    (volume / "soft").symlink_to(outside)
    os.mkfifo(volume / "pipe")
    before = group_and_mode(outside)
    assert gids.allocate(sandbox, "v", 65534) == 61000
    assert gids.allocate(sandbox, "v", 65534) == 61000
    assert [path.stat().st_gid for path in (volume, volume / "deep", volume / "deep/file")] == [61000] * 3
    assert group_and_mode(outside) == before
    gids.release(sandbox)
    assert [path.stat().st_gid for path in (volume, volume / "deep", volume / "deep/file")] == [0] * 3
    assert gids.free() == gids.total == 3


def test_a_volume_as_deep_as_its_owner_likes(gids: VolumeGids, sandbox: HostDirectory) -> None:
    """A directory of its own for each level would be more than a process may have open, and than Python may nest."""
    here = os.open(sandbox.directory, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    try:
        assert gids.allocate(sandbox, "d", 65534) == 61000
        assert os.fstat(here).st_gid == 61000
        gids.release(sandbox)
        assert os.fstat(here).st_gid == 0
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", sandbox.directory], check=True)


def test_a_link_leads_nowhere_else(gids: VolumeGids, sandbox: HostDirectory, run_directory: Path) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    before = group_and_mode(outside)
    (Path(sandbox.directory) / "link").symlink_to(outside)
    with pytest.raises(OSError):
        gids.allocate(sandbox, "link", 65534)
    assert group_and_mode(outside) == before
    assert gids.free() == 3


def test_a_volume_that_is_gone(gids: VolumeGids, sandbox: HostDirectory) -> None:
    gids.allocate(sandbox, "v", 65534)
    (Path(sandbox.directory) / "v").rmdir()
    gids.release_others(())
    assert gids.free() == 3


def test_what_was_begun_is_ended(
    gids: VolumeGids, sandbox: HostDirectory, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written first: who comes after a kill knows of the group, and gives it."""
    with monkeypatch.context() as patched:
        patched.setattr("os.fchown", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            gids.allocate(sandbox, ".", 65534)
    again = VolumeGids(run_directory / "work", RANGE)
    assert again.free() == 2
    assert again.allocate(sandbox, ".", 65534) == 61000
    assert Path(sandbox.directory).stat().st_gid == 61000
    again.release(sandbox)
    assert Path(sandbox.directory).stat().st_gid == APP[1]


def test_a_damaged_record(gids: VolumeGids, sandbox: HostDirectory, run_directory: Path) -> None:
    (run_directory / "work/meta").mkdir(parents=True)
    (run_directory / "work/meta/volume_gids").write_text("{")
    with pytest.raises(RecoveryError, match="volume_gids is damaged"):
        gids.allocate(sandbox, "v", 65534)
