"""A kill -9 of whoever is making, or running, a container of an image: what comes next leaves nothing of it."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.flags import Flags
from mesocosm.images.paths import provisioner_directory
from tests.command_line import MESOCOSM, TIMEOUT, CommandLine, children, kill_whole, line, stop
from tests.docker_archive import docker_archive
from tests.image_store import layer, left

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"
LAUNCH = """
import asyncio, sys
from pathlib import Path
from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ImageRequest
from mesocosm.flags import Flags
from mesocosm.images import provisioner
from mesocosm.images.backends import copy, overlay
work, runtime, cgroups, isolation, store, image, backend, step, where = sys.argv[1:]
kinds = {"copy": copy.CopyBackend, "overlay": overlay.OverlayBackend}
kind = provisioner.Provisioner if step == "_write_layers" else kinds[backend]
function = getattr(kind, step)
def stopped(*arguments):
    if where == "after":
        function(*arguments)
    print("here", flush=True)
    sys.stdin.read()
setattr(kind, step, stopped)
async def main():
    flags = Flags(work_dir=Path(work), runtime_dir=Path(runtime), cgroups_root=cgroups, isolation=isolation,
        image_providers=("docker",), image_provisioner_backend=backend, docker_store_dir=Path(store))
    async with MesosContainerizer(flags) as containerizer:
        config = ContainerConfig(CommandInfo("true"), image=ImageRequest(image))
        await containerizer.launch(ContainerID("web"), config)
asyncio.run(main())
"""


@pytest.fixture
def archive(rootfs: Path, run_directory: Path) -> str:
    if platform.machine() != "x86_64":
        pytest.skip("the archive is for amd64")
    top = layer(run_directory / "top", {"greeting": "hello\n"})
    return f"docker-archive:{docker_archive(run_directory / 'box.tar', 'box:latest', rootfs, top, Entrypoint=['sh'])}"


def kill(flags: Flags, *arguments: str) -> None:
    """Launches a container with a process that is killed on the way."""
    own = (str(flags.work_dir), str(flags.runtime_dir), flags.cgroups_root, ISOLATION, *arguments)
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *own], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert line(process) == "here"
        kill_whole(process)


@pytest.mark.parametrize(
    ("backend", "step", "where"),
    [
        ("overlay", "_write_layers", "before"),
        ("overlay", "_write_layers", "after"),
        ("overlay", "provision", "after"),
        ("copy", "provision", "after"),
    ],
)
async def test_a_recovery_removes_what_was_being_provisioned(
    flags: Flags, run_directory: Path, archive: str, backend: str, step: str, where: str
) -> None:
    store = run_directory / "store"
    kill(flags, str(store), archive, backend, step, where)
    directory = provisioner_directory(flags.work_dir)
    assert list(directory.rglob("web")), "nothing was killed in the middle"
    chosen = replace(flags, isolation=ISOLATION, image_providers=("docker",), docker_store_dir=store)
    containerizer = MesosContainerizer(chosen)
    containerizer.start()
    await containerizer.recover()
    assert await containerizer.containers() == set()
    assert left(directory) == []
    assert not (flags.work_dir / "containers/web").exists()
    pruned = await containerizer.prune_images()
    assert pruned is not None
    assert (len(pruned.images), pruned.layers) == (1, 2), "nobody uses them"
    await containerizer.close()


@pytest.mark.parametrize("launcher", [True, False], ids=["alone", "with its launcher"])
def test_a_run_of_an_image(run_directory: Path, unique_name: str, archive: str, *, launcher: bool) -> None:
    """Its launcher ends it, or the next run, if that was killed, too."""
    run, store = CommandLine(run_directory, unique_name), ("--store", str(run_directory / "store"))
    with run.start(*store, "--image", archive, "--", "-c", "echo ready; exec sleep 60") as process:
        assert line(process) == "ready"
        if launcher:
            kill_whole(process)
        else:
            stop(process.pid)
            for child in children(process.pid):
                os.kill(child, signal.SIGKILL)
            process.kill()
            process.wait(TIMEOUT)
    if not launcher:
        assert run.left(), "nobody was there to remove it"
        assert run.run("--", "true", name=f"{run.name}-next").returncode == 0
    assert run.left() == []
    pruned = subprocess.run([*MESOCOSM, "prune", *store], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert "1 image and 2 layers removed" in pruned.stdout
    left = sorted(path.name for path in (run_directory / "store").rglob("*"))
    assert left == ["images", "layers", "lock", "partial", "pulls", "sessions", "users"]
