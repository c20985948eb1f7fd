"""The store on disk: what a crash leaves, what several processes do to each other, and what is removed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pexpect
import pytest

from mesocosm.container import ContainerID
from mesocosm.errors import FlagError
from mesocosm.images import pull
from mesocosm.images.disk import ImageRecord, StoreDirectory
from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.process import Blob, Extractors
from mesocosm.images.image import ImageConfig
from mesocosm.images.paths import layers_file
from mesocosm.images.store import ImageStore
from mesocosm.linux.lock import locked
from tests.command_line import MESOCOSM, children
from tests.docker_archive import docker_archive
from tests.image_store import layer as directory_of
from tests.registry import call, digest, entry, layout, tar

pytestmark = pytest.mark.kernel

TIMEOUT = 60
LOWER = tar((entry("lower"), b"lower" * 1000))


def image(directory: Path, *names: str) -> str:
    """The name of an image with the common lower layer, and one of its own for each of `names`."""
    layers = [LOWER, *(tar((entry(name), name.encode())) for name in names)]
    return f"oci:{layout(directory / '-'.join(names), layers)}"


def leftovers(store: Path) -> list[str]:
    """What there is in a store that is neither a layer nor an image."""
    kept = {store / name for name in ("images", "layers", "partial", "pulls", "sessions", "users", "lock")}
    found = {path for name in (".", "partial", "pulls", "sessions") for path in (store / name).iterdir()}
    found |= {path for layer in (store / "layers").iterdir() for path in layer.iterdir()}
    return sorted(str(path) for path in found - kept if path.name not in ("tree", "layer"))


async def test_images_are_there_after_a_restart(run_directory: Path) -> None:
    name = image(run_directory, "one")
    store = ImageStore(run_directory / "store")
    first = await store.get(name)
    await store.close()
    assert leftovers(run_directory / "store") == []
    again = ImageStore(run_directory / "store")
    assert await again.images() == [first]
    for path in (run_directory / "one").rglob("*"):
        if path.is_file():
            path.unlink()  # It has to come from the store.
    assert await again.get(name) == first
    with pytest.raises(ImageError, match=r"has no images: there is no index\.json in it"):
        await again.get(name, cached=False)
    await again.close()


async def test_an_archive_without_one_of_its_layers(run_directory: Path) -> None:
    whole = docker_archive(
        run_directory / "whole.tar", "app:1", directory_of(run_directory / "one", {"file": "content"})
    )
    with tarfile.open(whole) as archive, tarfile.open(run_directory / "incomplete.tar", "w") as incomplete:
        for member in archive:
            if member.name != "0/layer.tar":
                incomplete.addfile(member, archive.extractfile(member))
    store = ImageStore(run_directory / "store")
    with pytest.raises(ImageError, match=r"the archive has no 0/layer\.tar"):
        await store.get(f"docker-archive:{run_directory}/incomplete.tar")
    await store.close()
    assert leftovers(run_directory / "store") == []


async def test_an_image_without_one_of_its_layers_is_pulled_again(run_directory: Path) -> None:
    name = image(run_directory, "one")
    store = ImageStore(run_directory / "store")
    found = await store.get(name)
    call("rm", "-r", found.layers[1].parent)
    assert await store.images() == []
    assert (await store.get(name)).layers == found.layers
    assert (found.layers[1] / "one").read_text() == "one"
    # One that somebody has emptied is none.
    (found.layers[1].parent / "layer").unlink()
    assert (await store.get(name)).layers == found.layers
    assert (found.layers[1].parent / "layer").exists()
    await store.close()


@pytest.mark.parametrize("content", ["", "{", '{"version": 99}', "[]"])
async def test_a_record_that_is_damaged_is_no_image(run_directory: Path, content: str) -> None:
    name = image(run_directory, "one")
    store = ImageStore(run_directory / "store")
    found = await store.get(name)
    record = next((run_directory / "store/images").iterdir())
    record.write_text(content)
    assert await store.images() == []
    assert await store.get(name) == found
    assert json.loads(record.read_text())["digest"] == found.digest
    await store.close()


PULL = """
import asyncio, sys
from pathlib import Path
from mesocosm.images import disk, pull, settle
from mesocosm.images.store import ImageStore
where, count = sys.argv[3], 0
def stop(function):
    def stopped(*arguments, **options):
        if where == "after":
            function(*arguments, **options)
        print("here", flush=True)
        sys.stdin.read()
    return stopped
name = sys.argv[4]
setattr(disk.StoreDirectory, name, stop(getattr(disk.StoreDirectory, name)))
asyncio.run(ImageStore(Path(sys.argv[1])).get(sys.argv[2]))
"""


def crash(directory: Path, name: str, where: str, step: str) -> None:
    """Pulls an image with a process that is killed on the way."""
    with subprocess.Popen(
        [sys.executable, "-c", PULL, directory, name, where, step], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"here")
        process.kill()
        process.wait(TIMEOUT)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("step", ["stage", "install", "add"])
async def test_a_crash_leaves_nothing_that_is_half_there(run_directory: Path, where: str, step: str) -> None:
    """The process is killed right before or after a step; the next one removes what is left, and pulls."""
    name = image(run_directory, "one")
    directory = run_directory / "store"
    crash(directory, name, where, step)
    store = ImageStore(directory)
    known = await store.images()
    assert len(known) == (1 if (step, where) == ("add", "after") else 0)
    assert len(list((directory / "sessions").iterdir())) == 1, "its own"
    for layer in (directory / "layers").iterdir():
        assert (layer / "layer").exists(), "only what is whole is here"
    found = await store.get(name)
    assert (found.layers[0] / "lower").read_bytes() == b"lower" * 1000
    await store.close()
    assert leftovers(directory) == []


async def test_a_pull_that_nobody_waits_for_any_more_is_stopped(run_directory: Path) -> None:
    name = image(run_directory, "one")
    store = ImageStore(run_directory / "store")
    started, go_on = asyncio.Event(), asyncio.Event()
    extract = Extractors.extract

    async def slow(*arguments: object) -> object:
        started.set()
        await go_on.wait()
        return await extract(*arguments)  # type: ignore[arg-type]

    pull.Extractors.extract = slow  # type: ignore[assignment, method-assign, attr-defined]
    try:
        one, two = (asyncio.ensure_future(store.get(name)) for _ in range(2))
        await started.wait()
        one.cancel()
        await asyncio.wait([one])
        assert not two.done(), "the other one still waits"
        two.cancel()
        await asyncio.wait([two])
        assert list((run_directory / "store/layers").iterdir()) == []
        assert [path.name for path in (run_directory / "store/sessions").glob("*/staging/*")] == []
        go_on.set()
        assert len((await store.get(name)).layers) == 2
    finally:
        pull.Extractors.extract = extract  # type: ignore[method-assign, attr-defined]
        await store.close()


async def test_nothing_is_left_of_who_was_cancelled_while_the_store_was_opened(run_directory: Path) -> None:
    store, other = ImageStore(run_directory / "store"), StoreDirectory(run_directory / "store")
    with locked(other.path / "lock"):
        listing = asyncio.ensure_future(store.images())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        listing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listing
    await store.close()
    other.close()
    assert leftovers(run_directory / "store") == []


async def test_prune_removes_what_nobody_uses(run_directory: Path) -> None:
    one, two, three = (image(run_directory, name) for name in ("one", "two", "three"))
    store = ImageStore(run_directory / "store")
    first, second, third = [await store.get(name) for name in (one, two, three)]
    for found in (first, second, third):
        await store.release(found)
    pruned = await store.prune([two], in_use=[third.layers[1]])
    assert pruned.images == tuple(sorted((one, three)))
    assert (pruned.layers, pruned.size) == (1, len("one"))
    assert not first.layers[1].exists()
    assert third.layers[1].exists(), "a container has it"
    assert await store.images() == [second]
    pruned = await store.prune([], in_use=second.layers)
    assert (pruned.images, pruned.layers) == ((), 1), "an image that is used wholly stays"
    pruned = await store.prune([], in_use=[])
    assert (pruned.images, pruned.layers) == ((two,), 2)
    assert list((run_directory / "store/layers").iterdir()) == []
    await store.close()


async def test_prune_leaves_what_was_got_and_not_released(run_directory: Path) -> None:
    """By this process and by another one, until that ends."""
    name = image(run_directory, "one")
    store, other = ImageStore(run_directory / "store"), ImageStore(run_directory / "store")
    found = await store.get(name)
    assert (await store.prune([], [])).images == ()
    assert (await other.prune([], [])).images == ()
    await store.get(name)
    await store.release(found)
    assert (await other.prune([], [])).layers == 0, "it was got twice"
    await store.release(found)
    assert (await other.prune([], [])).layers == 2
    await store.get(name)
    await store.close()
    assert (await other.prune([], [])).layers == 2
    await other.close()


async def test_prune_leaves_a_pull_alone(run_directory: Path) -> None:
    """Its layers are there already, and its record is not."""
    one, two = image(run_directory, "one"), image(run_directory, "two")
    store, other = ImageStore(run_directory / "store"), ImageStore(run_directory / "store")
    await store.release(await store.get(one))
    add = StoreDirectory.add
    pruning = []

    def prune_and_add(disk: StoreDirectory, record: object) -> None:
        pruning.append(asyncio.run_coroutine_threadsafe(other.prune([], []), loop).result(TIMEOUT))
        add(disk, record)  # type: ignore[arg-type]

    loop = asyncio.get_running_loop()
    StoreDirectory.add = prune_and_add  # type: ignore[method-assign, assignment]
    try:
        found = await store.get(two)
    finally:
        StoreDirectory.add = add  # type: ignore[method-assign]
    assert pruning[0].images == (one,)
    assert [layer.exists() for layer in found.layers] == [True, True]
    await store.close()
    await other.close()


async def test_prune_leaves_what_containers_use_whose_agent_is_not_there(run_directory: Path) -> None:
    """As its provisioner has it on disk, until that is removed."""
    name = image(run_directory, "one")
    store, other = ImageStore(run_directory / "store"), ImageStore(run_directory / "store")
    found = await store.get(name)
    provisioner, container = run_directory / "provisioner", ContainerID("nested", ContainerID("top"))
    file = layers_file(provisioner, container)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 1, "layers": [str(found.layers[1])]}))
    await store.register(provisioner)
    await store.close()
    assert (await other.prune([], [])).layers == 1
    assert found.layers[1].exists()
    call("rm", "-r", provisioner)
    assert (await other.prune([], [])).layers == 1
    assert list((run_directory / "store/users").iterdir()) == []
    await other.close()


def test_processes_share_a_store(run_directory: Path) -> None:
    """They pull the same image at the same time, and have it once."""
    name, directory = image(run_directory, "one"), run_directory / "store"
    command = [*MESOCOSM, "pull", "--quiet", "--store", str(directory), name]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = {process.communicate(timeout=TIMEOUT)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(digests) == 1
    assert len(list((directory / "layers").iterdir())) == 2
    assert leftovers(directory) == []


@pytest.mark.parametrize("mode", [0o777, 0o770])
async def test_a_store_that_others_can_write_to_is_refused(run_directory: Path, mode: int) -> None:
    directory = run_directory / "store"
    directory.mkdir()
    directory.chmod(mode)
    store = ImageStore(directory)
    with pytest.raises(FlagError, match=f"the store of images: others can write to {directory}; make it belong"):
        await store.images()


async def test_a_store_of_somebody_else_is_refused(run_directory: Path) -> None:
    """As anybody could make `/tmp/mesos` before root does."""
    (run_directory / "theirs/store").mkdir(parents=True)
    os.chown(run_directory / "theirs", 1000, 1000)
    with pytest.raises(FlagError, match=f"others can write to {run_directory}/theirs"):
        await ImageStore(run_directory / "theirs/store").images()


async def test_only_root_comes_to_the_files_of_images(run_directory: Path) -> None:
    store = ImageStore(run_directory / "store")
    found = await store.get(image(run_directory, "one"))
    await store.close()
    with pytest.raises(AssertionError, match="Permission denied"):
        call("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", found.layers[0] / "lower")


def test_other_users_are_told(run_directory: Path) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *MESOCOSM, "images"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd="/", env={"HOME": "/"})
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("this user cannot execute Mesocosm here")
    assert done.returncode == 125
    assert done.stderr == "mesocosm: images need root: their files have owners, devices and whiteouts; use sudo\n"


async def test_a_full_disk_is_told_and_leaves_nothing(run_directory: Path) -> None:
    directory = run_directory / "small"
    directory.mkdir(mode=0o700)
    call("mount", "-t", "tmpfs", "-o", "size=1m", "none", directory)
    try:
        path = layout(run_directory / "large", [tar((entry("zeros"), os.urandom(3 << 20)))])
        store = ImageStore(directory / "store")
        with pytest.raises(ImageError, match="'zeros': No space left on device; make room on the disk of the store"):
            await store.get(f"oci:{path}")
        await store.close()
        assert leftovers(directory / "store") == []
    finally:
        call("umount", directory)


def test_what_a_full_disk_did_not_take_is_taken_the_next_time(run_directory: Path) -> None:
    directory, layers = run_directory / "small", ["a" * 64, "b" * 64]
    directory.mkdir(mode=0o700)
    call("mount", "-t", "tmpfs", "-o", "size=64k", "none", directory)
    try:
        disk = StoreDirectory(directory / "store")
        filler = directory / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match="No space left"):
            disk.hold(layers)
        record = ImageRecord("name", "place", "sha256:0", ImageConfig(), tuple(layers), 0)
        with pytest.raises(OSError, match="No space left"):
            disk.add(record)
        with pytest.raises(OSError, match="No space left"):
            disk.register(run_directory)
        assert list((directory / "store/sessions").glob("*/staging/*")) == []
        assert list((directory / "store/users").iterdir()) == []
        filler.unlink()
        disk.add(record)
        disk.hold(layers)
        (use,) = (directory / "store/sessions").glob("*/uses/*")
        assert use.read_text().split() == layers
        disk.release(layers)
        assert not use.exists()
        disk.close()
    finally:
        call("umount", directory)


def test_a_store_that_cannot_be_opened_leaves_no_session(run_directory: Path) -> None:
    (run_directory / "store/pulls/what/is/this").mkdir(parents=True)
    (run_directory / "store").chmod(0o700)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="directory"):
        StoreDirectory(run_directory / "store")
    assert list((run_directory / "store/sessions").iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def kill_workers() -> None:
    """Kills the processes that unpack layers, as the kernel does when there is no memory left."""
    for child in children(os.getpid()):
        if b"images.extraction" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # Asyncio was faster.
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


async def test_a_worker_that_was_killed_is_replaced(run_directory: Path) -> None:
    store = ImageStore(run_directory / "store")
    await store.get(image(run_directory, "one"))
    kill_workers()
    assert len((await store.get(image(run_directory, "two"))).layers) == 2
    await store.close()


async def test_a_worker_that_is_killed_at_work_is_told(run_directory: Path) -> None:
    data = run_directory / "layer"
    data.write_bytes(LOWER)
    (run_directory / "tree").mkdir()

    async def growth() -> AsyncGenerator[int, None]:
        yield 512
        kill_workers()
        await asyncio.Event().wait()

    extractors = Extractors()
    with data.open("rb") as file:
        blob = Blob(file.fileno(), 0, 0, None, growth())
        with pytest.raises(ImageError, match="the process that unpacks the layer has ended; its memory may have run"):
            await extractors.extract(blob, digest(LOWER), run_directory / "tree")
    await extractors.close()


@pytest.mark.parametrize("command", [("pull",), ("run", "--entrypoint", "/none", "--image")])
def test_a_terminal_shows_a_bar_for_each_layer(run_directory: Path, command: tuple[str, ...]) -> None:
    name, *options = command
    arguments = ["-m", "mesocosm", name, "--store", str(run_directory / "store")]
    arguments += [*options, image(run_directory, "one")]
    terminal = pexpect.spawn(sys.executable, arguments, encoding="utf-8", dimensions=(24, 120), timeout=TIMEOUT)
    shown = terminal.read()
    terminal.close()
    assert terminal.exitstatus == (0 if name == "pull" else 127), "there is no such program"
    for layer in (LOWER, tar((entry("one"), b"one"))):
        assert f"{digest(layer)[7:19]} " in shown
    assert "━" in shown


def test_the_command_line(run_directory: Path) -> None:
    name, store = image(run_directory, "one"), ["--store", str(run_directory / "store")]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*MESOCOSM, *arguments]
        return subprocess.run(command, capture_output=True, check=False, text=True, timeout=TIMEOUT)

    pulled = run("pull", *store, name)
    assert pulled.returncode == 0
    reference, digest = pulled.stdout.split()
    assert reference == name
    assert [line.partition(": ")[2].partition(",")[0] for line in sorted(pulled.stderr.splitlines(), key=len)] == [
        *("complete", "complete"),
        *("pulling", "pulling"),
    ]
    assert run("pull", *store, "--quiet", name).stdout == f"{digest}\n"
    table = run("images", *store).stdout.splitlines()
    assert table[0].split() == ["image", "digest", "created", "layers", "size"]
    assert table[1].split()[:2] == [name, digest[:19]]
    found = json.loads(run("images", *store, "--json").stdout)
    assert [(each["reference"], each["digest"], each["size"]) for each in found] == [(name, digest, 5003)]
    refused = run("pull", *store, "no such image")
    assert (refused.returncode, refused.stdout) == (125, "")
    assert refused.stderr.count("\n") == 1
