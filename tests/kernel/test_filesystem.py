"""`filesystem/linux`: what a container sees of the host's files, what it can change of them, and where mounts go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import MountPropagation, Tmpfs, Volume, VolumeMode
from mesocosm.errors import ContainerError
from tests.launching import Launch

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
LINUX = "filesystem/linux,namespaces/pid"
MB = 1 << 20
HOST_TO_CONTAINER, BIDIRECTIONAL = MountPropagation.HOST_TO_CONTAINER, MountPropagation.BIDIRECTIONAL


@pytest.fixture
def source(run_directory: Path) -> Path:
    """A directory of the host."""
    directory = run_directory / "source"
    (directory / "below").mkdir(parents=True)
    (directory / "file").write_text("of the host\n")
    return directory


@pytest.fixture
def shared_mount(run_directory: Path) -> Iterator[Path]:
    """A mount of the host that has peers."""
    directory = run_directory / "shared"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    subprocess.run(["mount", "--make-shared", directory], check=True)
    (directory / "point").mkdir()
    yield directory
    subprocess.run(["umount", "-R", "-l", directory], check=True)


def mount_tmpfs(directory: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)


def unmount(directory: Path) -> None:
    subprocess.run(["umount", directory], check=True)


def is_mounted(directory: Path) -> bool:
    return f" {directory} " in Path("/proc/self/mountinfo").read_text()


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


# Volumes.


@pytest.mark.parametrize("target", ["/data", "/a/new/place", "relative", "relative/deep", "/usr"])
@pytest.mark.parametrize("mode", list(VolumeMode))
async def test_volumes(launch: Launch, writable_rootfs: Path, source: Path, target: str, mode: VolumeMode) -> None:
    volume = Volume(target, str(source), mode)
    script = f"cat {target}/file; touch {target}/made 2>/dev/null || echo refused"
    output = await launch.output(script, rootfs=writable_rootfs, volumes=(volume,))
    assert output.splitlines() == ["of the host"] + ["refused"] * (mode is VolumeMode.RO)
    assert (source / "made").exists() is (mode is VolumeMode.RW)


async def test_a_read_only_volume_is_so_with_all_that_is_mounted_below(launch: Launch, source: Path) -> None:
    mount_tmpfs(source / "below")
    try:
        volume = Volume("data", str(source), VolumeMode.RO)
        script = "touch data/below/made 2>/dev/null || echo refused"
        assert await launch.output(script, volumes=(volume,)) == "refused"
    finally:
        unmount(source / "below")


async def test_a_file_as_volume(launch: Launch, writable_rootfs: Path, source: Path) -> None:
    volumes = (Volume("/etc/hostname", str(source / "file")), Volume("/new/file", str(source / "file")))
    script = "cat /etc/hostname /new/file; echo changed > /etc/hostname"
    assert await launch.output(script, rootfs=writable_rootfs, volumes=volumes) == "of the host\nof the host"
    assert (source / "file").read_text() == "changed\n"
    assert (writable_rootfs / "etc/hostname").read_text() == "rootfs\n"


async def test_without_a_root_filesystem(launch: Launch, source: Path) -> None:
    volumes = (Volume("/mnt", str(source)), Volume("inside", str(source)))
    assert await launch.output("cat /mnt/file inside/file", volumes=volumes) == "of the host\nof the host"
    assert not Path("/mnt/file").exists()


async def test_a_relative_source_is_in_the_sandbox(launch: Launch, rootfs: Path) -> None:
    container = await launch("touch /tmp/made", rootfs=rootfs, volumes=(Volume("/tmp", "private"),))
    assert await container.wait() == 0
    assert (container.sandbox / "private/made").exists()


@pytest.mark.parametrize("host_path", ["../../outside", "/missing/source", "a/../../x"])
async def test_sources_that_are_not_there(launch: Launch, rootfs: Path, host_path: str) -> None:
    try:
        container = await launch("touch /mnt/made", rootfs=rootfs, volumes=(Volume("/mnt", host_path),))
    except ContainerError as error:
        assert host_path in str(error)  # noqa: PT017 - a relative one may also stay inside.
    else:
        await container.wait()
        assert not host_path.startswith("/")
    assert {path.name for path in launch.flags.work_dir.iterdir()} <= {"containers"}


@pytest.mark.parametrize("target", ["../x", "/a/../../x", "/", "/missing/on/the/host", "a\0b"])
async def test_targets_that_cannot_be(launch: Launch, source: Path, target: str) -> None:
    for options in ({"volumes": (Volume(target, str(source)),)}, {"tmpfs": (Tmpfs(target),)}):
        with pytest.raises(ContainerError):
            await launch("true", **options)


async def test_a_nul_character_in_a_source(launch: Launch) -> None:
    with pytest.raises(ContainerError):
        await launch("true", volumes=(Volume("x", "/usr\0/bin"),))


@pytest.mark.parametrize(
    ("below", "target", "text"), [("", "/etc/hostname", "Not a directory"), ("file", "/etc", "Is a directory")]
)
async def test_a_directory_on_a_file_and_a_file_on_a_directory(
    launch: Launch, writable_rootfs: Path, source: Path, below: str, target: str, text: str
) -> None:
    volume = Volume(target, str(source / below))
    with pytest.raises(ContainerError, match=f": bind {source / below} on {target} failed: {text}$"):
        await launch("true", rootfs=writable_rootfs, volumes=(volume,))


async def test_a_tmpfs_on_a_file(launch: Launch, writable_rootfs: Path) -> None:
    with pytest.raises(ContainerError, match=r": mount tmpfs on /etc/hostname failed: Not a directory$"):
        await launch("true", rootfs=writable_rootfs, tmpfs=(Tmpfs("/etc/hostname"),))


@pytest.mark.parametrize("propagation", [None, HOST_TO_CONTAINER, BIDIRECTIONAL])
async def test_propagation(
    launch: Launch, rootfs: Path, shared_mount: Path, propagation: MountPropagation | None
) -> None:
    for name in ("in", "out"):
        (shared_mount / name).mkdir()
    volume = Volume("/mnt", str(shared_mount), propagation=propagation)
    script = "mount -t tmpfs none /mnt/out && touch /mnt/out/made; echo up; read -r go; ls /mnt/in; echo end; read -r x"
    container = await launch.talking(script, rootfs=rootfs, volumes=(volume,))
    await container.line()
    mount_tmpfs(shared_mount / "in")
    (shared_mount / "in" / "new").touch()
    container.say("go")
    assert (await container.line() == "new") is (propagation is not None)
    assert is_mounted(shared_mount / "out") is (propagation is BIDIRECTIONAL)


async def test_a_relative_source_with_propagation(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never looked up in the working directory of whoever launches."""
    monkeypatch.chdir("/usr")
    volume = Volume("seen", "bin", propagation=BIDIRECTIONAL)
    try:
        container = await launch("ls seen", volumes=(volume,))
    except ContainerError:
        return
    await container.wait()
    assert container.stream() == ""


async def test_one_source_for_two_volumes(launch: Launch, rootfs: Path, shared_mount: Path) -> None:
    (shared_mount / "out").mkdir()
    volumes = tuple(Volume(path, str(shared_mount), propagation=BIDIRECTIONAL) for path in ("/mnt", "/srv"))
    script = "mount -t tmpfs none /srv/out; while [ -e /proc/1/fd/0 ]; do :; done; ls -l /proc/1/fd | grep -c -e '-> /'"
    container = await launch(script, rootfs=rootfs, volumes=volumes, isolation=LINUX)
    await container.wait()
    assert container.stream().strip() == "0", "the init keeps nothing of the host open"
    assert is_mounted(shared_mount / "out")


@pytest.mark.parametrize("kind", ["absolute", "relative", "dangling", "in the middle"])
@pytest.mark.parametrize("of_file", [False, True])
async def test_targets_that_are_links_out(
    launch: Launch, writable_rootfs: Path, run_directory: Path, source: Path, kind: str, of_file: bool
) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    (outside / "there").touch()
    links = {
        "absolute": outside,
        "relative": Path("../" * 20 + str(outside)),
        "dangling": outside / "missing",
        "in the middle": outside,
    }
    (writable_rootfs / "link").symlink_to(links[kind])
    target = "/link/a/b" if kind == "in the middle" else "/link"
    volume = Volume(target, str(source / "file" if of_file else source))
    try:
        container = await launch("echo written > /link/x; touch /link/y", rootfs=writable_rootfs, volumes=(volume,))
    except ContainerError:
        pass
    else:
        await container.wait()
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert not is_mounted(outside)


# tmpfs.


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


async def test_mounts_come_in_the_order_of_the_request(launch: Launch, rootfs: Path, source: Path) -> None:
    volumes = (Volume("/mnt", str(source)), Volume("/mnt/below", str(source)))
    assert await launch.output("cat /mnt/below/file", rootfs=rootfs, volumes=volumes) == "of the host"


async def test_a_volume_on_the_memory_of_the_container(launch: Launch, rootfs: Path, source: Path) -> None:
    """What a container asks for by name is not covered by what it gets anyway."""
    output = await launch.output("cat /dev/shm/file", rootfs=rootfs, volumes=(Volume("/dev/shm", str(source)),))
    assert output == "of the host"
    assert os.listdir(source)  # noqa: PTH208 - not removed.
