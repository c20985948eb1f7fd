"""`volume/sandbox_path`: what a container sees elsewhere of its own sandbox, or of its parent's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, MountPropagation, SandboxOf, SandboxPath, Volume, VolumeMode
from mesocosm.errors import ContainerError
from tests.launching import Launch, Started
from tests.rootfs import APP

pytestmark = pytest.mark.kernel
LINKS = "volume/sandbox_path"
"""Without filesystem/linux."""


def own(container_path: str, path: str, mode: VolumeMode = VolumeMode.RW) -> tuple[Volume]:
    return (Volume(container_path, mode=mode, sandbox_path=SandboxPath(path)),)


def parents(container_path: str, path: str, mode: VolumeMode = VolumeMode.RW) -> tuple[Volume]:
    return (Volume(container_path, mode=mode, sandbox_path=SandboxPath(path, SandboxOf.PARENT)),)


@pytest.fixture(params=[False, True], ids=["host", "rootfs"])
def root(request: pytest.FixtureRequest, writable_rootfs: Path) -> Path | None:
    return writable_rootfs if request.param else None


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


# SELF.


async def test_a_path_of_the_own_sandbox(launch: Launch, root: Path | None) -> None:
    container = await launch(
        "touch /home/made; ls $MESOS_SANDBOX/private", rootfs=root, volumes=own("/home", "private")
    )
    assert await container.wait() == 0
    assert container.stream() == "made\n"
    assert (container.sandbox / "private/made").exists()
    assert not Path("/home/made").exists()


async def test_it_was_once_a_relative_path_of_the_host(launch: Launch, rootfs: Path) -> None:
    container = await launch("touch /home/made", rootfs=rootfs, volumes=(Volume("/home", "private"),))
    assert await container.wait() == 0
    assert (container.sandbox / "private/made").exists()


async def test_read_only(launch: Launch, root: Path | None) -> None:
    script = "touch /home/made 2>/dev/null && echo written; touch $MESOS_SANDBOX/private/made"
    volumes = own("/home", "private", VolumeMode.RO)
    assert await launch.output(script, rootfs=root, volumes=volumes) == ""


@pytest.mark.parametrize("path", ["private", "deep/er/private"])
async def test_what_is_made_is_its_users(launch: Launch, root: Path | None, path: str) -> None:
    container = await launch("touch /home/made", rootfs=root, user="nobody", volumes=own("/home", path))
    assert await container.wait() == 0, container.stream("stderr")
    assert owner(container.sandbox / path) == owner(container.sandbox) == (65534, 65534)


async def test_what_is_there_already_stays_as_it_is(launch: Launch, rootfs: Path, run_directory: Path) -> None:
    sandbox = run_directory / "sandbox"
    (sandbox / "kept").mkdir(parents=True, mode=0o700)
    os.chown(sandbox, *APP[:2])
    os.chown(sandbox / "kept", 65534, 65534)
    output = await launch("ls -ld /home", rootfs=rootfs, directory=sandbox, user="app", volumes=own("/home", "kept"))
    await output.wait()
    assert owner(sandbox / "kept") == (65534, 65534)
    assert (sandbox / "kept").stat().st_mode & 0o777 == 0o700


async def test_a_file(launch: Launch, writable_rootfs: Path, run_directory: Path) -> None:
    sandbox = run_directory / "sandbox"
    sandbox.mkdir()
    (sandbox / "name").write_text("own\n")
    container = await launch(
        "cat /etc/hostname; echo new > /etc/hostname",
        rootfs=writable_rootfs,
        directory=sandbox,
        volumes=own("/etc/hostname", "name"),
    )
    assert await container.wait() == 0
    assert (sandbox / "stdout").read_text() == "own\n"
    assert (sandbox / "name").read_text() == "new\n"


# PARENT.


async def test_a_path_of_the_parents_sandbox(launch: Launch, root: Path | None) -> None:
    parent = await launch.talking("mkdir given; echo hello > given/word; echo up; read -r end", rootfs=root)
    await parent.line()
    volumes = parents("/home", "given")
    child = await launch("cat /home/word; touch /home/back", parent=parent, rootfs=root, volumes=volumes)
    assert await child.wait() == 0
    assert child.stream() == "hello\n"
    assert (parent.sandbox / "given/back").exists()


@pytest.mark.parametrize("mode", list(VolumeMode))
async def test_a_place_in_the_own_sandbox(launch: Launch, root: Path | None, mode: VolumeMode) -> None:
    parent = await launch.sleeping(rootfs=root)
    script = "touch from/here 2>/dev/null || echo refused"
    volumes = parents("from", "given", mode)
    assert await launch.output(script, parent=parent, rootfs=root, volumes=volumes) == (
        "refused" if mode is VolumeMode.RO else ""
    )
    assert (parent.sandbox / "given/here").exists() is (mode is VolumeMode.RW)


@pytest.mark.parametrize("isolation", ["filesystem/linux,namespaces/pid", LINKS])
async def test_siblings_share_a_path(launch: Launch, isolation: str) -> None:
    parent = await launch.sleeping(isolation=isolation)
    first = await launch("echo one > shared/word", parent=parent, isolation=isolation, volumes=parents("shared", "x"))
    assert await first.wait() == 0, first.stream("stderr")
    second = await launch("cat shared/word", parent=parent, isolation=isolation, volumes=parents("shared", "x"))
    assert await second.wait() == 0, second.stream("stderr")
    assert second.stream() == "one\n"
    third = await launch("cat shared/word", parent=parent, isolation=isolation)
    assert await third.wait() != 0, "who does not ask for it does not see it"


async def test_a_path_of_a_parent_that_is_nested_itself(launch: Launch, root: Path | None) -> None:
    top = await launch.sleeping(rootfs=root)
    middle = await launch.talking("echo deep > word; echo up; read -r end", parent=top, rootfs=root)
    await middle.line()
    volumes = parents("/home", "")
    assert await launch.output("cat /home/word", parent=middle, rootfs=root, volumes=volumes) == "deep"


async def test_after_a_restart(launch: Launch, rootfs: Path) -> None:
    parent = await launch.sleeping(rootfs=rootfs)
    (parent.sandbox / "given").mkdir()
    await launch.successor()
    child = await launch("touch /home/made", parent=parent, rootfs=rootfs, volumes=parents("/home", "given"))
    assert await child.wait() == 0
    assert (parent.sandbox / "given/made").exists()


async def test_what_is_made_is_the_parents_users(launch: Launch, rootfs: Path) -> None:
    parent = await launch.sleeping(rootfs=rootfs, user="app")
    child = await launch("true", parent=parent, rootfs=rootfs, volumes=parents("/home", "given"))
    assert await child.wait() == 0
    assert owner(parent.sandbox / "given") == APP[:2]


# Links, where nothing can be mounted.


async def test_a_link_is_made_again(launch: Launch) -> None:
    parent = await launch.sleeping(isolation=LINKS)
    for _ in range(2):
        child = await launch("cat in/x/word", parent=parent, name="kid", volumes=parents("in/x", "given"))
        await child.wait()
        assert (child.sandbox / "in/x").readlink() == parent.sandbox / "given"
        await launch.containerizer().remove(child.container_id)


@pytest.mark.parametrize("volumes", [parents("/home", "x"), parents("a", "x", VolumeMode.RO), parents("../a", "x")])
async def test_what_takes_a_mount(launch: Launch, volumes: tuple[Volume]) -> None:
    parent = await launch.sleeping(isolation=LINKS)
    with pytest.raises(ContainerError):
        await launch("true", parent=parent, volumes=volumes)


@pytest.mark.parametrize("link", ["in", "in/x"])
async def test_a_link_is_not_made_outside(launch: Launch, run_directory: Path, link: str) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    parent = await launch.sleeping(isolation=LINKS)
    place = parent.sandbox / "containers/kid" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    try:
        child = await launch("true", parent=parent, name="kid", volumes=parents("in/x/y", "given"))
    except (ContainerError, OSError):
        pass
    else:
        await child.wait()
    assert list(outside.iterdir()) == []


# What is refused.


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (own("relative", "x"), "the same sandbox"),
        (own("/home", "/x"), "/x in a sandbox is absolute"),
        (own("/home", "a/../../x"), "a/../../x has a '..'"),
        (own("/home/../x", "x"), "/home/../x has a '..'"),
        (own("/", "x"), "on /"),
        (own("/tmp", "x"), "would hide the sandbox"),
        (own("/missing/on/the/host", "x"), "does not exist on the host"),
        (parents("/home", "x"), "nested in none"),
        ((Volume("/home", "x", propagation=MountPropagation.BIDIRECTIONAL),), "mounts cannot travel"),
        ((Volume("/home"),), "made of nothing"),
    ],
)
async def test_what_cannot_be(launch: Launch, volume: tuple[Volume], text: str) -> None:
    with pytest.raises(ContainerError) as caught:
        await launch("true", volumes=volume)
    assert text in str(caught.value)


@pytest.mark.parametrize("isolation", ["filesystem/linux", LINKS])
async def test_debug_containers_have_none(launch: Launch, isolation: str) -> None:
    parent = await launch.sleeping(isolation=isolation)
    with pytest.raises(ContainerError, match="debug"):
        await launch("true", parent=parent, container_class=ContainerClass.DEBUG, volumes=parents("x", "x"))


async def test_it_takes_the_isolator(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="enable the isolator volume/sandbox_path"):
        await launch("true", isolation="filesystem/posix", volumes=own("/home", "x"))


# Hostile sandboxes.


async def hostile(launch: Launch, rootfs: Path, script: str) -> Started:
    """A parent that has prepared its sandbox for its children."""
    parent = await launch.talking(f"{script}; echo up; read -r end", rootfs=rootfs, user="app")
    assert await parent.line() == "up"
    return parent


@pytest.mark.parametrize(
    "target", ["{outside}", "../../../../../../../../../../../../{outside}", "/proc/self/fd/3", "/proc/1/root", "/"]
)
@pytest.mark.parametrize("path", ["link", "link/made"])
async def test_a_link_in_the_parents_sandbox_leads_nowhere_else(
    launch: Launch, rootfs: Path, run_directory: Path, target: str, path: str
) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    parent = await hostile(launch, rootfs, f"ln -s {target.format(outside=outside)} link")
    script = "ls -a /home; touch /home/written"
    try:
        child = await launch(script, parent=parent, rootfs=rootfs, volumes=parents("/home", path))
    except ContainerError:
        pass
    else:
        await child.wait()
        assert "precious" not in child.stream()
        assert "work" not in child.stream()
    assert [entry.name for entry in outside.iterdir()] == ["precious"]


async def test_the_sandbox_of_the_child_is_not_that_of_the_parent(launch: Launch, rootfs: Path) -> None:
    """SELF is looked up in the nested sandbox, and no link there leads to the rest of the parent's."""
    script = "echo x > precious; mkdir -p containers/kid; ln -s ../../precious containers/kid/link"
    parent = await hostile(launch, rootfs, script)
    with pytest.raises(ContainerError, match="No such file or directory"):
        await launch("cat /home", parent=parent, name="kid", rootfs=rootfs, volumes=own("/home", "link"))


async def test_a_parent_that_swaps_a_directory_for_a_link(launch: Launch, rootfs: Path, run_directory: Path) -> None:
    """However often it does: the child sees the directory, or is not launched, and nothing is made outside."""
    outside = run_directory / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    script = (
        f"mkdir -p dir/sub; ln -s {outside} link; echo up;"
        " while :; do mv dir aside; mv link dir; mv dir link; mv aside dir; done"
    )
    parent = await launch.talking(script, rootfs=rootfs, user="app")
    await parent.line()
    for number in range(10):
        try:
            child = await launch(
                "ls /home", parent=parent, rootfs=rootfs, volumes=parents("/home", f"dir/made{number}")
            )
        except ContainerError:
            continue
        await child.wait()
        assert "precious" not in child.stream()
    await parent.destroy()
    assert [entry.name for entry in outside.iterdir()] == ["precious"]


async def test_nothing_stays_mounted(launch: Launch, rootfs: Path) -> None:
    container = await launch("grep -c ' /home ' /proc/mounts", rootfs=rootfs, volumes=own("/home", "private"))
    await container.wait()
    assert container.stream().strip() == "1"
    assert "private" not in Path("/proc/self/mountinfo").read_text()
