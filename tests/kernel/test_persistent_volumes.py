"""Persistent volumes: where they are, whose they are, and that they outlive containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import PersistentVolume, SandboxPath, Volume, VolumeMode
from mesocosm.errors import ContainerError
from tests.launching import LINUX, Launch
from tests.machine import mount_points

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
MB = 1 << 20
VOLUME = PersistentVolume("id1", "role1/part", MB, "data", principal="me")


def path_of(launch: Launch) -> Path:
    return launch.flags.work_dir / "volumes/roles/role1 part/id1"


@pytest.mark.parametrize("isolation", [LINUX, "filesystem/posix"])
async def test_a_persistent_volume_is_whose_the_sandbox_is_and_outlives_containers(
    launch: Launch, isolation: str
) -> None:
    first = await launch("id -u > data/kept", isolation=isolation, user="nobody", persistent_volumes=(VOLUME,))
    assert await first.wait() == 0, first.stream("stderr")
    assert await launch.output("cat data/kept", isolation=isolation, persistent_volumes=(VOLUME,)) == "65534"


async def test_a_read_only_persistent_volume(launch: Launch) -> None:
    volume = PersistentVolume("id1", "*", MB, "data", VolumeMode.RO)
    container = await launch("touch data/new", persistent_volumes=(volume,))
    assert await container.wait() == 1
    assert "Read-only" in container.stream("stderr")


@pytest.mark.parametrize("path", ["/data", "../data"])
async def test_a_persistent_volume_is_in_the_sandbox(launch: Launch, path: str) -> None:
    with pytest.raises(ContainerError, match=r"is absolute|has a '..'"):
        await launch("true", persistent_volumes=(PersistentVolume("id1", "*", MB, path),))


@pytest.mark.parametrize("with_rootfs", [False, True])
async def test_beside_a_volume_of_the_host(
    launch: Launch, rootfs: Path, run_directory: Path, with_rootfs: bool
) -> None:
    """In a root file system, the sandbox is where the flag says."""
    (run_directory / "host").mkdir()
    (run_directory / "host/file").write_text("of the host")
    volumes = (Volume("/tmp" if with_rootfs else "host", str(run_directory / "host")),)
    script = "cp /tmp/file /mnt/mesos/sandbox/data/" if with_rootfs else "cp host/file data/"
    container = await launch(
        script, rootfs=rootfs if with_rootfs else None, volumes=volumes, persistent_volumes=(VOLUME,)
    )
    assert await container.wait() == 0, container.stream("stderr")
    assert (path_of(launch) / "file").read_text() == "of the host"


async def test_a_volume_from_its_place_in_the_sandbox(launch: Launch, rootfs: Path) -> None:
    """Is the persistent volume, not the empty directory that it is mounted on."""
    seen = Volume("/tmp", sandbox_path=SandboxPath("data"))
    options = {"isolation": f"{LINUX},volume/sandbox_path", "rootfs": rootfs, "volumes": (seen,)}
    container = await launch("echo abc > /tmp/file", persistent_volumes=(VOLUME,), **options)
    assert await container.wait() == 0, container.stream("stderr")
    assert (path_of(launch) / "file").read_text() == "abc\n"


async def test_each_container_has_its_own(launch: Launch, rootfs: Path) -> None:
    """And nothing on the host is mounted, be something of it open there or not."""
    first = await launch.talking("echo first > data/file; echo up; read -r end", persistent_volumes=(VOLUME,))
    assert await first.line() == "up"
    other = PersistentVolume("id2", "role1/part", MB, "data")
    assert await launch.output("ls data", rootfs=rootfs, persistent_volumes=(other,)) == ""
    assert list((first.sandbox / "data").iterdir()) == []
    assert [path for path in mount_points() if path.is_relative_to(launch.flags.work_dir)] == []
    with (path_of(launch) / "file").open():
        await first.destroy()
    assert (path_of(launch) / "file").read_text() == "first\n"


async def test_that_of_a_container_which_is_not_known_any_more(launch: Launch) -> None:
    container = await launch.talking("echo kept > data/file; echo up; read -r end", persistent_volumes=(VOLUME,))
    assert await container.line() == "up"
    successor = await launch.successor(recover=False)
    await successor.recover(())
    assert container.container_id not in await successor.containers()
    assert (path_of(launch) / "file").read_text() == "kept\n"


@pytest.mark.parametrize("with_rootfs", [False, True])
async def test_a_container_that_runs_gets_volumes_and_loses_them(
    launch: Launch, rootfs: Path, with_rootfs: bool
) -> None:
    """They are mounted where it can see them, and nowhere on the host; what was mounted with it stays."""
    script = "while read -r line; do eval $line; echo done; done"
    container = await launch.talking(script, rootfs=rootfs if with_rootfs else None, persistent_volumes=(VOLUME,))
    other = PersistentVolume("id2", "role1/part", MB, "deep/other", VolumeMode.RO)
    before = mount_points()
    containerizer = launch.containerizer()
    await containerizer.update_volumes(container.container_id, (VOLUME, other))
    assert mount_points() == before
    (path_of(launch).with_name("id2") / "file").write_text("later")
    container.say("cat deep/other/file; touch deep/other/new; touch data/new")
    assert await container.line() == "laterdone"
    assert not (path_of(launch).with_name("id2") / "new").exists()
    assert (path_of(launch) / "new").exists()
    await containerizer.update_volumes(container.container_id, (VOLUME,))
    container.say("ls deep/other; test -e data/new && echo kept")
    assert [await container.line(), await container.line()] == ["kept", "done"]
    await container.destroy()


async def test_where_a_volume_comes_is_looked_up_in_the_sandbox(launch: Launch, run_directory: Path) -> None:
    """A container that puts a link there gets nothing mounted elsewhere, nor does it see more of the host."""
    (outside := run_directory / "outside").mkdir()
    container = await launch.talking(f"ln -s {outside} data; echo up; read -r end; ls {outside}; echo done")
    assert await container.line() == "up"
    with pytest.raises(OSError, match="data cannot be changed while the container runs"):
        await launch.containerizer().update_volumes(container.container_id, (VOLUME,))
    (path_of(launch) / "file").write_text("")
    container.say("end")
    assert await container.line() == "done"
    await container.destroy()
