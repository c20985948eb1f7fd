"""`docker/runtime` in real containers: what the kernel has executed, where, as whom and with which variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ImageRequest
from mesocosm.containerizer.base import ContainerIO
from mesocosm.errors import ContainerError
from mesocosm.flags import DEFAULT_PATH
from tests.image_store import DirectoryStore, image, layer
from tests.launch_commands import CELLS, SCRIPTS, SHOW, Cell
from tests.launching import Launch

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"
NOTHING = CommandInfo(shell=False)


class Images:
    """Launches containers of one image, which is busybox with a config of the test's."""

    def __init__(self, launch: Launch, store: DirectoryStore, rootfs: Path, directory: Path) -> None:
        self.launch = launch
        self._store = store
        self._layers = (rootfs, layer(directory / "scripts", dict.fromkeys(SCRIPTS, SHOW)))
        launch.containerizer(ISOLATION, image_providers=("docker",))

    async def run(self, command: CommandInfo, config: dict[str, Any], stdin: int | None = None, **options: Any) -> str:
        """What a container that succeeds writes."""
        self._store.add(image("box", *self._layers, **config))
        number = len(self._store.asked)
        container_id = ContainerID(f"box{number}")
        containerizer = self.launch.containerizer()
        asked = ContainerConfig(command, image=ImageRequest("box"), **options)
        await containerizer.launch(container_id, asked, None if stdin is None else ContainerIO(stdin=stdin))
        termination = await containerizer.wait(container_id)
        sandbox = self.launch.sandbox(container_id)
        assert termination.exit_status == 0, (sandbox / "stderr").read_text()
        return (sandbox / "stdout").read_text()


@pytest.fixture
def images(launch: Launch, store: DirectoryStore, rootfs: Path, run_directory: Path) -> Images:
    return Images(launch, store, rootfs, run_directory)


@pytest.mark.parametrize("cell", CELLS)
async def test_the_launch_command(images: Images, launch: Launch, cell: Cell, store: DirectoryStore) -> None:
    """What `/proc/self/cmdline` has in the container, for each cell of the table."""
    config = {"entrypoint": cell.config.entrypoint, "cmd": cell.config.cmd}
    if cell.executed is None:
        with pytest.raises(ContainerError, match=r"no command|no value"):
            await images.run(cell.command, config)
        assert store.taken == [], "it was given back"
        return
    reads, writes = os.pipe()  # A shell that gets no script reads its input.
    os.write(writes, SHOW.encode())
    os.close(writes)
    try:
        found = await images.run(cell.command, config, stdin=reads)
    finally:
        os.close(reads)
    assert tuple(found.removesuffix("\n").split("\n")) == cell.executed


# What else the image says.


@pytest.mark.parametrize("command", [NOTHING, CommandInfo("exec env"), CommandInfo.of(("env",))])
async def test_variables(images: Images, command: CommandInfo) -> None:
    config = {"cmd": ("env",), "environment": ("A=image", "B=image=x", "novalue", "PATH=/bin:/of/the/image")}
    found = dict(line.split("=", 1) for line in (await images.run(command, config)).splitlines())
    assert (found["A"], found["B"], found["PATH"]) == ("image", "image=x", "/bin:/of/the/image")
    assert "novalue" not in found
    assert found["MESOS_SANDBOX"] == "/mnt/mesos/sandbox"
    found = dict(
        line.split("=", 1)
        for line in (await images.run(command, config, environment={"A": "own", "PATH": DEFAULT_PATH})).splitlines()
    )
    assert (found["A"], found["B"], found["PATH"]) == ("own", "image=x", DEFAULT_PATH)


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        (None, "/mnt/mesos/sandbox"),
        ("/tmp", "/tmp"),
        ("tmp/made", "/tmp/made"),
        ("/../../../tmp", "/tmp"),
        ("/sbin", "/bin"),
        ("/out/made", "/etc/made"),
    ],
)
async def test_directories(images: Images, run_directory: Path, directory: str | None, expected: str) -> None:
    """Also those that lead upwards, or through links: never out of the container."""
    (run_directory / "scripts/out").symlink_to("../../../etc")
    found = await images.run(CommandInfo("pwd -P"), {"working_directory": directory})
    assert found == f"{expected}\n"
    assert not Path("/etc/made").exists()
    assert await images.run(CommandInfo("pwd"), {"working_directory": directory}, working_directory="/var") == "/var\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, "0 0 0"),
        ("app", "1000 1000 1000 2001 2002"),
        ("1000", "1000 1000 1000 2001 2002"),
        ("app:data", "1000 2002 2002"),
        ("55:66", "55 66 66"),
        ("55", "55 0 0"),
    ],
)
async def test_users(images: Images, user: str | None, expected: str) -> None:
    command = CommandInfo("echo $(id -u) $(id -g) $(id -G)")
    assert await images.run(command, {"user": user}) == f"{expected}\n"
    assert await images.run(command, {"user": user}, user="55:77") == "55 77 77\n"


@pytest.mark.parametrize("user", [None, "1000:1000"])
async def test_the_sandbox_is_the_users(images: Images, user: str | None) -> None:
    """The user of the image, or another."""
    script = 'touch "$MESOS_SANDBOX/file" && cd "$MESOS_SANDBOX" && stat -c "%n %u" . file stdout stderr'
    found = await images.run(CommandInfo(script), {"user": "app" if user is None else None}, user=user)
    assert found == ". 1000\nfile 1000\nstdout 1000\nstderr 1000\n"


async def test_users_of_several_layers(
    launch: Launch, store: DirectoryStore, rootfs: Path, run_directory: Path
) -> None:
    """Whoever the merged root has: links between layers, whiteouts and opaque directories count."""
    linked = layer(run_directory / "linked", {"etc/passwd": None, "real/passwd": "web:x:7:8::/:\n", "etc/group": None})
    moved = layer(run_directory / "moved", {"real/group": "logs:x:9:web\n"})
    for name in ("passwd", "group"):
        (moved / "etc").mkdir(exist_ok=True)
        (moved / "etc" / name).symlink_to(f"/../real/./{name}")
    launch.containerizer(ISOLATION, image_providers=("docker",))
    store.add(image("web", rootfs, linked, moved, user="web"))
    store.add(image("app", rootfs, linked, moved, user="app"))
    store.add(image("opaque", rootfs, linked, moved, layer(run_directory / "opaque", {"real!/": ""}), user="web"))
    found = await launch.output("echo $(id -u) $(id -g) $(id -G)", isolation=ISOLATION, image=ImageRequest("web"))
    assert found == "7 8 8 9"
    for name, user in {"app": "app", "opaque": "web"}.items():
        with pytest.raises(ContainerError, match=f"no user '{user}' in the image"):
            await launch("true", isolation=ISOLATION, image=ImageRequest(name))


@pytest.mark.parametrize(
    "config",
    [
        {"user": "nobodys"},
        {"user": "daemon"},
        {"user": "app:staff"},
        {"entrypoint": ("/bin/sh\0x",)},
        {"cmd": ("/bin/sh", "a\0b")},
        {"environment": ("A=b\0c",)},
        {"working_directory": "/tmp\0/x"},
        {"working_directory": "/etc/hostname"},
    ],
)
async def test_hostile_configs_are_refused(images: Images, store: DirectoryStore, config: dict[str, Any]) -> None:
    with pytest.raises(ContainerError):
        await images.run(NOTHING, {"cmd": ("/bin/sh",), **config})
    assert store.taken == []


async def test_an_image_without_a_shell(
    launch: Launch, store: DirectoryStore, rootfs: Path, run_directory: Path
) -> None:
    bare = layer(run_directory / "bare", {"busybox": ""})
    (bare / "busybox").write_bytes((rootfs / "bin/busybox").read_bytes())
    (bare / "busybox").chmod(0o755)
    store.add(image("bare", bare, entrypoint=("/busybox", "echo", "hi")))
    launch.containerizer(ISOLATION, image_providers=("docker",))
    container_id = ContainerID("bare")
    await launch.containerizer().launch(container_id, ContainerConfig(NOTHING, image=ImageRequest("bare")))
    assert (await launch.containerizer().wait(container_id)).exit_status == 0
    assert (launch.sandbox(container_id) / "stdout").read_text() == "hi\n"


async def test_docker_ignore_runtime(launch: Launch, store: DirectoryStore, rootfs: Path) -> None:
    store.add(image("box", rootfs, environment=("A=1",), working_directory="/tmp", user="app", cmd=("/bin/sh",)))
    launch.containerizer(ISOLATION, image_providers=("docker",), docker_ignore_runtime=True)
    found = await launch.output("echo $A; pwd; id -u", isolation=ISOLATION, image=ImageRequest("box"))
    assert found == "\n/mnt/mesos/sandbox\n0"
    with pytest.raises(ContainerError, match="no command"):
        await launch.containerizer().launch(ContainerID("x"), ContainerConfig(NOTHING, image=ImageRequest("box")))
