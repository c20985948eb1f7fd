"""`volume/host_path`: what a container sees of paths of the host, and what it can do to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, MountPropagation, Tmpfs, Volume, VolumeMode
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.volume.host_path import HostPathVolumeIsolator
from tests.launching import Launch
from tests.mounts import is_mounted, make_private, mount_tmpfs, unmount

pytestmark = pytest.mark.kernel
LINUX = "filesystem/linux,namespaces/pid"
HOST_TO_CONTAINER, BIDIRECTIONAL = MountPropagation.HOST_TO_CONTAINER, MountPropagation.BIDIRECTIONAL


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
    places = ("/etc/hostname", "/new/file", "in/sandbox")
    volumes = tuple(Volume(place, str(source / "file")) for place in places)
    script = f"cat {' '.join(places)}; echo changed > /etc/hostname"
    output = await launch.output(script, rootfs=writable_rootfs, volumes=volumes)
    assert output.splitlines() == ["of the host"] * 3
    assert (source / "file").read_text() == "changed\n"
    assert (writable_rootfs / "etc/hostname").read_text() == "rootfs\n"


async def test_without_a_root_filesystem(launch: Launch, source: Path) -> None:
    volumes = (Volume("/mnt", str(source)), Volume("inside", str(source)))
    assert await launch.output("cat /mnt/file inside/file", volumes=volumes) == "of the host\nof the host"
    assert not Path("/mnt/file").exists()


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


async def test_mounts_come_in_the_order_of_the_request(launch: Launch, rootfs: Path, source: Path) -> None:
    volumes = (Volume("/mnt", str(source)), Volume("/mnt/below", str(source)))
    assert await launch.output("cat /mnt/below/file", rootfs=rootfs, volumes=volumes) == "of the host"


async def test_a_volume_on_the_memory_of_the_container(launch: Launch, rootfs: Path, source: Path) -> None:
    """What a container asks for by name is not covered by what it gets anyway."""
    output = await launch.output("cat /dev/shm/file", rootfs=rootfs, volumes=(Volume("/dev/shm", str(source)),))
    assert output == "of the host"
    assert os.listdir(source)  # noqa: PTH208 - not removed.


async def test_a_volume_is_not_hidden_by_one_above_it(launch: Launch, rootfs: Path, source: Path) -> None:
    """Whatever the order is that they are asked for in, and whatever they are made of."""
    volumes = (Volume("/mnt/below", str(source)), Volume("/mnt", "own"))
    output = await launch.output("cat /mnt/below/file; touch /mnt/made", rootfs=rootfs, volumes=volumes)
    assert output == "of the host"


async def test_a_path_in_its_own_place(launch: Launch, source: Path) -> None:
    volume = Volume(str(source), str(source), VolumeMode.RO)
    assert await launch.output(f"touch {source}/made 2>/dev/null || echo refused", volumes=(volume,)) == "refused"


async def test_a_mount_that_is_not_shared(launch: Launch, source: Path) -> None:
    mount_tmpfs(source / "below")
    make_private(source / "below")
    try:
        volume = Volume("data", str(source / "below"), propagation=BIDIRECTIONAL)
        with pytest.raises(ContainerError, match="which is on no shared mount"):
            await launch("true", volumes=(volume,))
    finally:
        unmount(source / "below")


async def test_one_source_both_shared_and_not(launch: Launch, rootfs: Path, shared_mount: Path) -> None:
    (shared_mount / "out").mkdir()
    (shared_mount / "kept").mkdir()
    volumes = (Volume("/mnt", str(shared_mount)), Volume("/srv", str(shared_mount), propagation=BIDIRECTIONAL))
    script = "mount -t tmpfs none /srv/out && mount -t tmpfs none /mnt/kept"
    assert await launch.output(script, rootfs=rootfs, volumes=volumes) == ""
    assert is_mounted(shared_mount / "out")
    assert not is_mounted(shared_mount / "kept")


async def test_nested_containers(launch: Launch, rootfs: Path, source: Path) -> None:
    parent = await launch.sleeping(rootfs=rootfs)
    volumes = (Volume("/home", str(source), VolumeMode.RO),)
    assert await launch.output("cat /home/file", parent=parent, rootfs=rootfs, volumes=volumes) == "of the host"
    with pytest.raises(ContainerError, match="debug"):
        await launch("true", parent=parent, container_class=ContainerClass.DEBUG, volumes=volumes)


# Sources that are made.


@pytest.fixture
def creating(launch: Launch, run_directory: Path) -> Path:
    """A directory below which sources are made."""
    directory = run_directory / "named"
    directory.mkdir()
    launch.containerizer(LINUX, host_path_volume_force_creation=f"/nonexistent:{directory}")
    return directory


@pytest.mark.parametrize("user", [None, "app"])
async def test_a_source_is_made(launch: Launch, rootfs: Path, creating: Path, user: str | None) -> None:
    volumes = (Volume("/mnt", str(creating / "a/b")), Volume("/tmp", str(creating / "c")))
    assert await launch.output("touch /mnt/made /tmp/made", rootfs=rootfs, user=user, volumes=volumes) == ""
    assert (creating / "a/b/made").exists()
    wanted = 0 if user is None else 1000
    assert [(creating / path).stat().st_uid for path in ("a", "a/b", "c")] == [0, wanted, wanted]
    assert (creating / "a/b").stat().st_mode & 0o7777 == 0o755


async def test_only_below_the_named_directories(launch: Launch, creating: Path, run_directory: Path) -> None:
    for path in (run_directory / "other", creating / "../other", Path(f"{creating}-other")):
        with pytest.raises(ContainerError, match="does not exist; name a directory above it"):
            await launch("true", volumes=(Volume("x", str(path)),))
    assert {path.name for path in run_directory.iterdir()} <= {"named", "run", "work"}


async def test_a_named_directory_is_made_too(launch: Launch, run_directory: Path) -> None:
    directory = run_directory / "named/deep"
    launch.containerizer(LINUX, host_path_volume_force_creation=str(directory))
    assert await launch.output("touch x/made", volumes=(Volume("x", str(directory)),)) == ""
    assert (directory / "made").exists()


@pytest.mark.parametrize("path", ["link/new", "link/a/b", "a/link/new"])
async def test_a_link_is_no_way_out_of_a_named_directory(
    launch: Launch, rootfs: Path, creating: Path, run_directory: Path, path: str
) -> None:
    """A container that had a volume there may have put it there."""
    outside = run_directory / "outside"
    outside.mkdir()
    (creating / "a").mkdir()
    (creating / "link").symlink_to(outside)
    (creating / "a/link").symlink_to("../../outside")
    try:
        container = await launch("touch /mnt/made", rootfs=rootfs, volumes=(Volume("/mnt", str(creating / path)),))
    except ContainerError:
        pass
    else:
        await container.wait()
    assert list(outside.iterdir()) == []


async def test_a_source_that_others_make_and_remove_meanwhile(
    launch: Launch, rootfs: Path, creating: Path, run_directory: Path
) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    script = f"cd /mnt; echo up; while :; do ln -s {outside} dir; rm dir; mkdir dir; rmdir dir; done 2>/dev/null"
    swapping = await launch.talking(script, rootfs=rootfs, volumes=(Volume("/mnt", str(creating)),))
    await swapping.line()
    for number in range(10):
        volume = Volume("/mnt", str(creating / f"dir/new{number}"))
        try:
            await (await launch("touch /mnt/made", rootfs=rootfs, volumes=(volume,))).wait()
        except ContainerError:
            continue
    await swapping.destroy()
    assert list(outside.iterdir()) == []


def test_a_named_directory_that_is_not_absolute() -> None:
    with pytest.raises(FlagError, match="--host_path_volume_force_creation: b is no absolute path"):
        HostPathVolumeIsolator.create(Flags(host_path_volume_force_creation="/a:b"))
