"""`filesystem/shared`: what a container sees instead of directories that it shares with the host."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, SandboxOf, SandboxPath, Tmpfs, Volume, VolumeMode
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from tests.agent_process import AgentProcess
from tests.launching import Launch

pytestmark = pytest.mark.kernel
SHARED = "filesystem/shared"


@pytest.fixture
def run_directory(unique_name: str) -> Iterator[Path]:
    """Not in /tmp, which these tests cover."""
    directory = Path("/var/tmp", unique_name)
    directory.mkdir(mode=0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def covered(unique_name: str) -> Iterator[Path]:
    """A directory of the host to cover."""
    directory = Path(tempfile.gettempdir(), unique_name)
    directory.mkdir()
    (directory / "file").write_text("of the host\n")
    yield directory
    shutil.rmtree(directory)


async def test_a_private_tmp(launch: Launch, covered: Path) -> None:
    script = "stat -c '%a %u %g' /tmp; ls -A /tmp; touch /tmp/own; echo up; read -r go; ls -A /tmp; read -r end"
    volumes = (Volume("/tmp", "tmp"),)
    one = await launch.talking(script, isolation=SHARED, user="nobody", volumes=volumes)
    assert [await one.line(), await one.line()] == ["1777 0 0", "up"], "it is empty"
    two = await launch.talking(script, isolation=SHARED, user="nobody", volumes=volumes)
    assert [await two.line(), await two.line()] == ["1777 0 0", "up"], "another one does not see it"
    (covered / "new").touch()
    one.say("go")
    assert await one.line() == "own"
    assert (one.sandbox / "tmp/own").exists()
    assert not Path("/tmp/own").exists()


async def test_without_a_volume_it_is_shared(launch: Launch, covered: Path) -> None:
    assert await launch.output(f"cat {covered}/file", isolation=SHARED) == "of the host"


async def test_the_permissions_of_what_is_covered(launch: Launch, covered: Path) -> None:
    covered.chmod(0o2751)
    os.chown(covered, 65534, 1000)
    os.chmod(covered, 0o2751)  # noqa: PTH101 - chown(2) has taken the bit away.
    script = f"stat -c '%a %u %g' {covered}"
    assert await launch.output(script, isolation=SHARED, volumes=(Volume(str(covered), "a/b"),)) == "2751 65534 1000"


@pytest.mark.parametrize("mode", list(VolumeMode))
async def test_a_path_of_the_host(launch: Launch, covered: Path, source: Path, mode: VolumeMode) -> None:
    script = f"cat {covered}/file; touch {covered}/made 2>/dev/null || echo refused"
    volumes = (Volume(str(covered), str(source), mode),)
    output = await launch.output(script, isolation=SHARED, volumes=volumes)
    assert output.splitlines() == ["of the host"] + ["refused"] * (mode is VolumeMode.RO)
    assert (source / "made").exists() is (mode is VolumeMode.RW)
    assert not (covered / "made").exists()


async def test_a_read_only_directory_of_the_sandbox(launch: Launch, covered: Path) -> None:
    script = f"touch {covered}/made 2>/dev/null || echo refused"
    volumes = (Volume(str(covered), "own", VolumeMode.RO),)
    assert await launch.output(script, isolation=SHARED, volumes=volumes) == "refused"


async def test_nested_containers(launch: Launch, covered: Path) -> None:
    volumes = (Volume(str(covered), "own"),)
    parent = await launch.talking(f"touch {covered}/made; echo up; read -r end", isolation=SHARED, volumes=volumes)
    await parent.line()
    assert await launch.output(f"ls {covered}", parent=parent, isolation=SHARED) == "file", "as standalone ones are"
    child = await launch(f"touch {covered}/childs", parent=parent, isolation=SHARED, volumes=volumes)
    assert await child.wait() == 0
    assert (child.sandbox / "own/childs").exists()
    debug = await launch(f"ls {covered}", parent=parent, isolation=SHARED, container_class=ContainerClass.DEBUG)
    await debug.wait()
    assert debug.stream() == "made\n", "it is in the namespace of its parent"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"volumes": (Volume("/missing/on/the/host", "x"),)}, "/missing/on/the/host does not exist"),
        ({"volumes": (Volume("relative", "x"),)}, "relative does not exist"),
        ({"volumes": (Volume("/tmp/../tmp", "x"),)}, "has a '..'"),
        ({"volumes": (Volume("/tmp", "/missing"),)}, "source /missing of the volume /tmp does not exist"),
        ({"volumes": (Volume("/tmp", "../x"),)}, "../x has a '..'"),
        ({"volumes": (Volume("/usr", "x"), Volume("/usr/bin", "y"))}, "/usr/bin and the volume /usr are one in the"),
        ({"volumes": (Volume("/usr/bin", "x"), Volume("/usr", "y"))}, "/usr and the volume /usr/bin are one in the"),
        ({"volumes": (Volume("/usr/lib", "x"), Volume("/usr/lib/", "y"))}, "one in the other"),
        ({"volumes": (Volume("/var/tmp", "x"),)}, "/var/tmp and the sandbox are one in the other"),
        ({"volumes": (Volume("/", "x"),)}, "/ and the sandbox are one in the other"),
        ({"volumes": (Volume("/tmp", sandbox_path=SandboxPath("x", SandboxOf.PARENT)),)}, "has no host_path"),
        ({"rootfs": Path("/usr")}, "asks for a root filesystem"),
        ({"tmpfs": (Tmpfs("/tmp"),)}, "asks for a root filesystem, a tmpfs"),
    ],
)
async def test_what_cannot_be(launch: Launch, options: dict[str, object], text: str) -> None:
    with pytest.raises(ContainerError) as caught:
        await launch("true", isolation=SHARED, **options)
    assert text in str(caught.value)


async def test_names_that_only_begin_alike_are_apart(launch: Launch, covered: Path) -> None:
    other = Path(f"{covered}-other")
    other.mkdir()
    try:
        volumes = (Volume(str(covered), "a"), Volume(str(other), "b"))
        assert await launch.output("true", isolation=SHARED, volumes=volumes) == ""
    finally:
        other.rmdir()


async def test_a_link_in_the_sandbox_leads_nowhere_else(launch: Launch, covered: Path, run_directory: Path) -> None:
    sandbox, outside = run_directory / "sandbox", run_directory / "outside"
    for directory in (sandbox, outside):
        directory.mkdir()
    (outside / "precious").touch()
    (sandbox / "link").symlink_to(outside)
    for path in ("link", "link/made"):
        try:
            container = await launch(
                f"ls {covered}", isolation=SHARED, directory=sandbox, volumes=(Volume(str(covered), path),)
            )
        except ContainerError:
            continue
        await container.wait()
        assert "precious" not in (sandbox / "stdout").read_text()
    assert [entry.name for entry in outside.iterdir()] == ["precious"]


def test_the_agents_default(flags: Flags, agent: AgentProcess) -> None:
    """A private /tmp for every container that asks for nothing."""
    default = {"type": "MESOS", "volumes": [{"mode": "RW", "container_path": "/tmp", "host_path": "tmp"}]}
    agent.start(f"--default_container_info={json.dumps(default)}", isolation=SHARED)
    name = f"seen-{flags.cgroups_root}"
    for container in ("one", "two"):
        assert agent.launch(container, f"ls -A /tmp; touch /tmp/{name}; stat -c %a /tmp").status == 200
        assert agent.wait_for(container)["exit_status"] == 0
        assert (agent.sandbox(container) / "stdout").read_text() == "1777\n"
        assert (agent.sandbox(container) / "tmp" / name).exists()
    assert not Path("/tmp", name).exists()
    own = {"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "/mnt", "host_path": "/usr"}]}
    assert agent.launch("three", "ls -d /mnt/bin; touch /mnt/x", container=own).status == 200
    assert agent.wait_for("three")["exit_status"] != 0
    assert (agent.sandbox("three") / "stdout").read_text() == "/mnt/bin\n"
