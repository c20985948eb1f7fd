"""Images and the end of things: a launch that is given up, a containerizer that is gone, a machine that was booted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from mesocosm.container import ContainerID, ImageRequest, ProvisionedImage
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import ContainerError, RecoveryError
from mesocosm.images.backends.copy import CopyBackend
from mesocosm.images.image import Image
from mesocosm.images.paths import container_directory, find_containers, layers_file, provisioner_directory
from tests.image_store import DirectoryStore, image, left
from tests.launching import TIMEOUT, Launch

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"


@pytest.fixture
def box(store: DirectoryStore, rootfs: Path, launch: Launch) -> Image:
    """The image `box`, and a containerizer that can have it."""
    launch.containerizer(ISOLATION, image_providers=("docker",))
    return store.add(image("box", rootfs))


@pytest.fixture
def directory(launch: Launch) -> Path:
    return provisioner_directory(launch.flags.work_dir)


async def running(launch: Launch, **options: object) -> ContainerID:
    container = await launch.sleeping(isolation=ISOLATION, image=ImageRequest("box"), **options)
    return container.container_id


async def in_use(containerizer: MesosContainerizer, store: DirectoryStore) -> set[Path]:
    """The layers that a removal of images would have to leave."""
    await containerizer.prune_images()
    return store.pruned[-1][1]


async def test_a_running_container_keeps_its_root_and_its_layers(
    launch: Launch, store: DirectoryStore, box: Image, directory: Path
) -> None:
    container_id = await running(launch)
    files = sorted(directory.rglob("*"))
    containerizer = await launch.successor()
    assert await containerizer.containers() == {container_id}
    assert sorted(directory.rglob("*")) == files
    assert await in_use(containerizer, store) == set(box.layers)
    await containerizer.destroy(container_id)
    assert left(directory) == []
    assert await in_use(containerizer, store) == set()


@pytest.mark.parametrize("request_", [ImageRequest("box"), None], ids=["both", "nested alone"])
async def test_a_nested_container_keeps_its_own(
    launch: Launch, store: DirectoryStore, box: Image, directory: Path, request_: ImageRequest | None
) -> None:
    parent = await launch.sleeping(isolation=ISOLATION, image=request_)
    nested = await launch.sleeping(isolation=ISOLATION, image=ImageRequest("box"), parent=parent)
    files = sorted(directory.rglob("*"))
    containerizer = await launch.successor()
    assert await containerizer.containers() == {parent.container_id, nested.container_id}
    assert sorted(directory.rglob("*")) == files
    nested.say("end")
    assert (await containerizer.wait(nested.container_id)).exit_status == 0
    assert await in_use(containerizer, store) == (set() if request_ is None else set(box.layers))
    await containerizer.destroy(parent.container_id)
    assert left(directory) == []


async def test_the_root_of_a_container_that_died_unseen_is_removed(
    launch: Launch, store: DirectoryStore, box: Image, directory: Path
) -> None:
    container = await launch.sleeping(isolation=ISOLATION, image=ImageRequest("box"))
    pidfd = os.pidfd_open(await container.pid())
    await launch.successor(recover=False)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    containerizer = await launch.successor()
    assert await containerizer.containers() == set()
    assert left(directory) == []
    assert await in_use(containerizer, store) == set()


async def test_what_no_container_has_is_removed(launch: Launch, box: Image, directory: Path) -> None:
    """Left by a kill before the container was on record, or of before a boot: with nested ones, also half-made ones."""
    kept = await running(launch)
    web = ContainerID("web")
    for container_id in (ContainerID("half"), ContainerID("db", web), ContainerID("deep", ContainerID("db", web))):
        scratch = container_directory(directory, container_id) / "0.work/work"
        scratch.mkdir(parents=True)
        scratch.chmod(0)
    (directory / "probe-1234").mkdir()
    assert ContainerID("deep", ContainerID("db", web)) in find_containers(directory)
    await launch.successor()
    assert find_containers(directory) == [kept]
    assert left(directory) == [container_directory(directory, kept)]


async def test_what_is_no_container_is_left_alone(launch: Launch, box: Image, directory: Path) -> None:
    (directory / "containers/not.one").mkdir(parents=True)
    with pytest.raises(RecoveryError, match=r"not\.one is not the directory of a container"):
        await launch.successor()
    (directory / "containers/not.one").rmdir()


async def test_a_damaged_record_of_layers(launch: Launch, box: Image, directory: Path) -> None:
    """Images could be removed that the container uses, so somebody has to look."""
    container_id = await running(launch)
    path = layers_file(directory, container_id)
    content = path.read_text()
    path.write_text("{")
    with pytest.raises(RecoveryError, match="layers is damaged"):
        await launch.successor()
    path.write_text(content)
    await (await launch.successor()).destroy(container_id)


# Launches that are given up.


async def test_layers_are_on_record_before_they_are_used(
    launch: Launch, box: Image, directory: Path, monkeypatch: pytest.MonkeyPatch, store: DirectoryStore
) -> None:
    seen = []

    class Looking(CopyBackend):
        def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
            seen.append(json.loads(layers_file(directory, ContainerID("c1")).read_text())["layers"])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("mesocosm.images.backends.copy.CopyBackend", Looking)
    await launch.successor(image_provisioner_backend="copy")
    with pytest.raises(OSError, match="No space left"):
        await running(launch)
    assert seen == [[str(layer) for layer in box.layers]]
    assert left(directory) == []
    assert store.taken == []


async def test_a_container_is_destroyed_while_its_image_is_pulled(
    launch: Launch, store: DirectoryStore, box: Image, directory: Path
) -> None:
    store.gate = asyncio.Event()
    launching = asyncio.create_task(running(launch, name="web"))
    await asyncio.wait_for(store.asked_for.wait(), TIMEOUT)
    containerizer = launch.containerizer()
    assert containerizer.pending() == {ContainerID("web"): "PROVISIONING"}
    await asyncio.wait_for(containerizer.destroy(ContainerID("web")), TIMEOUT)
    with pytest.raises(ContainerError, match="was destroyed while it was launched"):
        await launching
    assert left(directory) == []
    assert store.taken == []
    assert not launch.sandbox(ContainerID("web")).exists()


async def test_a_container_is_destroyed_while_layers_are_copied(
    launch: Launch, store: DirectoryStore, box: Image, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    class Slow(CopyBackend):
        def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
            begun.set()
            assert stop.wait(TIMEOUT), "nobody said stop"
            (rootfs / "late").mkdir(parents=True)
            return ProvisionedImage(rootfs, image.config)

    monkeypatch.setattr("mesocosm.images.backends.copy.CopyBackend", Slow)
    await launch.successor(image_provisioner_backend="copy")
    launching = asyncio.create_task(running(launch, name="web"))
    assert await asyncio.to_thread(begun.wait, TIMEOUT)
    await asyncio.wait_for(launch.containerizer().destroy(ContainerID("web")), TIMEOUT)
    with pytest.raises(ContainerError, match="was destroyed while it was launched"):
        await launching
    assert left(directory) == [], "also what was made after the destroy"
    assert store.taken == []


async def test_layers_of_a_launch_are_in_use_from_the_beginning(
    launch: Launch, store: DirectoryStore, box: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal of images between the pull and the record finds them in use, too."""
    begun, go = threading.Event(), threading.Event()

    class Waiting(CopyBackend):
        def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
            begun.set()
            assert go.wait(TIMEOUT)
            return super().provision(image, rootfs, scratch, stop)

    monkeypatch.setattr("mesocosm.images.backends.copy.CopyBackend", Waiting)
    await launch.successor(image_provisioner_backend="copy")
    launching = asyncio.create_task(running(launch))
    assert await asyncio.to_thread(begun.wait, TIMEOUT)
    assert await in_use(launch.containerizer(), store) == set(box.layers)
    go.set()
    container_id = await launching
    assert await in_use(launch.containerizer(), store) == set(box.layers)
    await launch.containerizer().destroy(container_id)
    assert await in_use(launch.containerizer(), store) == set()


async def test_what_a_container_has_filled_is_removed(launch: Launch, box: Image, directory: Path) -> None:
    """As deep as it liked, with names and links as it liked."""
    script = """
    cd /; for level in $(seq 300); do mkdir long-name-of-a-directory && cd long-name-of-a-directory; done
    ln -s / link; mkfifo fifo; touch "$(printf 'a\\nb')"; chmod 0 /tmp; mkdir -m 0 /closed
    """
    await launch.output(script, isolation=ISOLATION, image=ImageRequest("box"))
    assert left(directory) == []
