"""Containers of images: what they see of the layers, whose the changes are, and that nothing is left."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import ContainerClass, ImageRequest, ImageVolume, Tmpfs, Volume, VolumeMode
from mesocosm.errors import ContainerError, FlagError
from mesocosm.images.backends.copy import CopyBackend
from mesocosm.images.image import Image
from mesocosm.images.paths import container_directory, find_containers, layers_file, provisioner_directory
from mesocosm.images.provisioner import choose_backend
from mesocosm.secrets import Hidden, Secret, SecretReference
from tests import plugins
from tests.image_store import DirectoryStore, image, layer, left
from tests.launching import Launch, Started
from tests.registry import call

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"
BOX = ImageRequest("box")
BACKENDS = ("overlay", "copy")
LAYERS: tuple[dict[str, str | None], ...] = (
    {
        "data/low": "low\n",
        "data/changed": "low\n",
        "data/gone": "low\n",
        "opaque/low": "low\n",
        "replaced/low": "low\n",
        "file": "low\n",
    },
    {
        "data/changed": "middle\n",
        "data/middle": "middle\n",
        "data/gone": None,
        "opaque!/": "",
        "opaque/middle": "middle\n",
        "replaced": "middle\n",
        "file/inside": "middle\n",
    },
    {"data/gone": "top\n", "data/middle": None, "data/top": "top\n"},
)
SEEN = {
    "data/changed": "middle\n",
    "data/gone": "top\n",
    "data/low": "low\n",
    "data/top": "top\n",
    "file/inside": "middle\n",
    "opaque/middle": "middle\n",
    "replaced": "middle\n",
}


@pytest.fixture
def box(rootfs: Path, store: DirectoryStore) -> Image:
    """The image `box`: busybox in one layer."""
    return store.add(image("box", rootfs, cmd=("/bin/sh",)))


@pytest.fixture
def stack(rootfs: Path, store: DirectoryStore, run_directory: Path) -> Image:
    """The image `stack`: files of several layers over busybox."""
    layers = (layer(run_directory / f"layer{number}", files) for number, files in enumerate(LAYERS))
    return store.add(image("stack", rootfs, *layers))


class Launching:
    """Launches containers of images."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch

    def start(self, backend: str | None = "overlay", **flags: Any) -> None:
        options = {"image_providers": ("docker",), "image_provisioner_backend": backend, **flags}
        self.launch.containerizer(ISOLATION, **options)

    async def __call__(self, command: Any, name: str | None = None, **options: Any) -> Started:
        return await self.launch(command, isolation=ISOLATION, **self._with(name, options))

    async def output(self, command: Any, name: str | None = None, **options: Any) -> str:
        return await self.launch.output(command, isolation=ISOLATION, **self._with(name, options))

    async def sleeping(self, name: str | None = None, **options: Any) -> Started:
        return await self.launch.sleeping(isolation=ISOLATION, **self._with(name, options))

    @staticmethod
    def _with(name: str | None, options: dict[str, Any]) -> dict[str, Any]:
        return options if name is None else {"image": ImageRequest(name), **options}

    @property
    def directory(self) -> Path:
        return provisioner_directory(self.launch.flags.work_dir)

    def left(self) -> list[Path]:
        """What there is below the directory of the provisioner."""
        return left(self.directory)


@pytest.fixture
def images(launch: Launch) -> Launching:
    return Launching(launch)


# What a container sees.


async def test_what_is_mounted_on_is_in_a_layer_that_all_share(images: Launching, box: Image) -> None:
    """To make it in each would take the disk longer than all else. What the image has in its place counts."""
    (box.layers[-1] / "etc").mkdir(exist_ok=True)
    (box.layers[-1] / "etc").chmod(0o711)
    images.start()
    container = await images.sleeping("box")
    changed = container_directory(images.directory, container.container_id) / "0"
    assert list(changed.iterdir()) == []
    assert await images.output(["stat", "-c", "%a %n", "/etc", "/mnt/mesos"], "box") == "711 /etc\n755 /mnt/mesos"
    assert list(changed.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
async def test_layers_become_one_root(images: Launching, stack: Image, backend: str) -> None:
    images.start(backend)
    names = "data opaque replaced file"
    found = await images.output(f"cd /; find {names} -type f -exec grep -H '' {{}} +", "stack")
    assert dict(line.split(":") for line in found.splitlines()) == {k: v.rstrip("\n") for k, v in SEEN.items()}
    assert images.left() == []


async def test_the_backend_bind_shows_the_only_layer_as_it_is(
    images: Launching, stack: Image, writable_rootfs: Path, store: DirectoryStore, run_directory: Path
) -> None:
    images.start("bind", sandbox_directory="/mnt")
    for name in ("hosts", "resolv.conf"):  # Where those of the host are mounted.
        (writable_rootfs / "etc" / name).touch()
    store.add(image("box", writable_rootfs))
    script = "head -n 1 /etc/group; touch /made /etc/made 2>/dev/null && echo written; touch /mnt/made; ls /mnt"
    assert (await images.output(script, "box")).split() == ["root:x:0:", "made", "stderr", "stdout"]
    assert not (writable_rootfs / "made").exists()
    with pytest.raises(ContainerError, match="4 layers"):
        await images("true", "stack")
    store.add(image("small", layer(run_directory / "small", {"bin/": ""})))
    with pytest.raises(ContainerError, match="Read-only file system"):
        await images("true", "small")
    made = [path.name for path in (run_directory / "small").iterdir()]
    assert made == ["bin"], "no mount point was made in the layer that all share"
    assert images.left() == []


@pytest.mark.parametrize("backend", BACKENDS)
async def test_changes_are_the_containers_own(
    images: Launching, stack: Image, rootfs: Path, backend: str, run_directory: Path
) -> None:
    images.start(backend)
    one = await images.launch.talking(
        "echo one > /data/low; echo one > /mine; rm -r /opaque; echo up; read -r go; cat /data/low; ls /theirs",
        isolation=ISOLATION,
        image=ImageRequest("stack"),
    )
    assert await one.line() == "up"
    script = "echo two > /theirs; cat /data/low; ls /mine; ls /opaque"
    other = await images(script, "stack")
    await other.wait()
    assert other.stream() == "low\nmiddle\n"
    assert "/mine: No such file" in other.stream("stderr")
    one.say("go")
    assert await one.line() == "one"
    assert await one.wait() == 1, "no /theirs"
    assert (run_directory / "layer0/data/low").read_text() == "low\n"
    assert not (rootfs / "mine").exists()
    assert images.left() == []


async def test_volumes_of_the_host_beside_an_image(
    images: Launching, box: Image, stack: Image, run_directory: Path
) -> None:
    """Of a container that ends while another one goes on, of another image and without its volumes."""
    images.start()
    for name in ("one", "two"):
        (run_directory / name).mkdir()
        (run_directory / name / "file").write_text(name)
    volumes = (
        Volume("/tmp", host_path=str(run_directory / "one")),
        Volume("relative", host_path=str(run_directory / "two")),
    )
    one = await images.launch.talking(
        "cat /tmp/file $MESOS_SANDBOX/relative/file /stack/data/low && read -r end",
        isolation=ISOLATION,
        image=ImageRequest("box"),
        volumes=volumes,
        image_volumes=(ImageVolume("/stack", ImageRequest("stack")),),
    )
    assert await one.line() == "onetwolow"
    other = await images.sleeping("stack")
    seen = f"[ ! -e {one.sandbox} ] && [ ! -e /tmp/file ] && echo nothing"
    assert await images.output(seen, "box") == "nothing"
    termination = await one.destroy()
    assert termination is not None
    assert termination.exit_status == 137
    other.say("end")
    assert await other.wait() == 0
    assert images.left() == []
    assert [(run_directory / name / "file").read_text() for name in ("one", "two")] == ["one", "two"]


async def test_more_layers_than_overlayfs_has(images: Launching, store: DirectoryStore, rootfs: Path) -> None:
    images.start()
    store.add(image("toomany", *[rootfs] * 501))
    with pytest.raises(ContainerError, match="501 layers"):
        await images("true", "toomany")


async def test_a_container_sees_nothing_of_the_host_of_the_store_or_of_others(images: Launching, stack: Image) -> None:
    images.start()
    other = await images.sleeping("stack")
    found = await images.output("cat /proc/self/mountinfo; ls /tmp; ls -a /", "stack")
    for path in (images.launch.flags.work_dir / "provisioner", *stack.layers):
        assert str(path) not in found
    assert await other.destroy()


async def test_there_never_is_a_mount_on_the_host(images: Launching, stack: Image) -> None:
    images.start()
    container = await images.sleeping("stack")
    assert str(images.directory) not in Path("/proc/self/mountinfo").read_text()
    pid = await container.pid()
    assert " overlay " in Path(f"/proc/{pid}/mountinfo").read_text()
    await container.destroy()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_devices_of_an_image_are_none(
    images: Launching, store: DirectoryStore, rootfs: Path, run_directory: Path, backend: str
) -> None:
    hostile = layer(run_directory / "devices", {})
    os.mknod(hostile / "null", 0o20666, os.makedev(1, 3))
    store.add(image("devices", rootfs, hostile))
    images.start(backend)
    assert await images.output("[ -c /null ] && (echo x > /null) 2>&1; echo x > /dev/null; echo end", "devices") == (
        "sh: can't create /null: Permission denied\nend"
    )


async def test_a_read_only_root(images: Launching, stack: Image) -> None:
    images.start()
    script = "touch /made 2>/dev/null && echo written; touch /tmp/x /mnt/mesos/sandbox/y"
    assert await images.output(script, "stack", rootfs_read_only=True, tmpfs=(Tmpfs("/tmp"),)) == ""
    assert await images.output(script, "stack") == "written"


async def test_the_attributes_of_the_root_directory(
    images: Launching, store: DirectoryStore, rootfs: Path, run_directory: Path
) -> None:
    top = layer(run_directory / "top", {})
    top.chmod(0o750)
    os.chown(top, 0, 2002)
    store.add(image("private", rootfs, top))
    images.start()
    assert await images.output("stat -c '%a %u:%g' /", "private") == "750 0:2002"


# Nested containers.


async def test_a_nested_container_has_an_image_of_its_own(images: Launching, stack: Image, box: Image) -> None:
    images.start()
    parent = await images.sleeping("stack")
    assert await images.output("head -n 1 /etc/group; ls /data/top || true", "box", parent=parent) == "root:x:0:"
    script = "cat /data/top; echo x > /data/top"
    assert await images.output(script, parent=parent, container_class=ContainerClass.DEBUG) == "top"
    nested = await images.sleeping("stack", parent=parent)
    directory = container_directory(images.directory, nested.container_id)
    assert layers_file(images.directory, nested.container_id).exists()
    assert container_directory(images.directory, parent.container_id) in directory.parents
    await parent.destroy()
    assert images.left() == []


async def test_a_nested_container_has_one_and_its_parent_none(images: Launching, box: Image) -> None:
    images.start()
    parent = await images.sleeping()
    nested = await images.sleeping("box", parent=parent)
    other = await images.sleeping("box", parent=parent)
    await nested.destroy()
    assert find_containers(images.directory) == [parent.container_id, other.container_id]
    await other.destroy()
    assert images.left() == []


async def test_a_debug_container_can_have_no_image(images: Launching, box: Image) -> None:
    images.start()
    parent = await images.sleeping("box")
    with pytest.raises(ContainerError, match="debug container"):
        await images("true", "box", parent=parent, container_class=ContainerClass.DEBUG)


# Volumes.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("with_root", [False, True])
async def test_an_image_as_a_volume(images: Launching, box: Image, stack: Image, backend: str, with_root: bool) -> None:
    images.start(backend)
    volume = ImageVolume("tools", ImageRequest("box"))
    script = "tools/bin/busybox cat tools/etc/hostname && echo own > tools/etc/hostname && cat tools/etc/hostname"
    name = "stack" if with_root else None
    assert await images.output(script, name, image_volumes=(volume,)) == "rootfs\nown"
    assert (box.layers[0] / "etc/hostname").read_text() == "rootfs\n"
    assert images.left() == []


async def test_a_read_only_image_volume(images: Launching, box: Image, stack: Image) -> None:
    images.start()
    volumes = (
        ImageVolume("/tools", ImageRequest("box"), VolumeMode.RO),
        ImageVolume("/other/tools", ImageRequest("stack")),
    )
    script = "cat /tools/etc/hostname /other/tools/data/top; touch /tools/new; touch /other/tools/new"
    container = await images(script, "box", image_volumes=volumes)
    assert await container.wait() == 0
    assert container.stream() == "rootfs\ntop\n"
    assert container.stream("stderr") == "touch: /tools/new: Read-only file system\n"


async def test_an_image_volume_of_a_nested_container(images: Launching, box: Image, stack: Image) -> None:
    images.start()
    parent = await images.sleeping("stack")
    volume = ImageVolume("/tools", ImageRequest("box"))
    assert await images.output("cat /tools/etc/hostname", "box", parent=parent, image_volumes=(volume,)) == "rootfs"


async def test_an_image_volume_that_cannot_be(images: Launching, box: Image) -> None:
    images.start()
    for path, reason in {"/nonexistent": "does not exist", "/": "on /", "a/../b": r"a '\.\.'"}.items():
        with pytest.raises(ContainerError, match=reason):
            await images("true", image_volumes=(ImageVolume(path, ImageRequest("box")),))
    assert images.left() == []


async def test_an_image_volume_without_its_isolator(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="enable the isolator volume/image, which comes with filesystem/linux"):
        await launch("true", isolation="filesystem/posix", image_volumes=(ImageVolume("/t", ImageRequest("box")),))


# What is refused.


@pytest.mark.parametrize(
    "asked", [{"image": BOX}, {"image_volumes": (ImageVolume("/tools", BOX),)}], ids=["root", "volume"]
)
async def test_without_images(launch: Launch, asked: dict[str, Any]) -> None:
    with pytest.raises(ContainerError, match="--image_providers=docker"):
        await launch("true", **asked)


@pytest.mark.parametrize("isolation", ["filesystem/linux", "filesystem/posix,posix/cpu"])
async def test_images_need_their_isolators(launch: Launch, isolation: str) -> None:
    with pytest.raises(
        FlagError, match=r"--image_providers=docker needs the isolator '(docker/runtime|filesystem/linux)'"
    ):
        launch.containerizer(isolation, image_providers=("docker",))


async def test_an_image_and_a_root_filesystem(images: Launching, box: Image, rootfs: Path) -> None:
    images.start()
    with pytest.raises(ContainerError, match="both an image and a root filesystem"):
        await images("true", "box", rootfs=rootfs)


def secret(credentials: bytes) -> Secret:
    return Secret(Hidden(credentials))


async def test_an_image_that_there_is_not(images: Launching, box: Image) -> None:
    images.start()
    for request in ({"image": ImageRequest("nonesuch")}, {"image": ImageRequest("box", credentials=secret(b"{"))}):
        with pytest.raises(ContainerError, match=r"no image nonesuch|no JSON"):
            await images("true", **request)
    assert images.left() == []


async def test_credentials_are_for_the_store_and_not_for_the_disk(
    images: Launching, box: Image, store: DirectoryStore
) -> None:
    images.start()
    request = ImageRequest("box", cached=False, credentials=secret(b'{"auths": {"x": {}}}'))
    container = await images.sleeping(image=request)
    assert store.asked == [("box", False, {"auths": {"x": {}}})]
    record = images.launch.flags.runtime_dir / f"containers/{container.container_id}/config"
    assert '"box"' in record.read_text()
    assert "auths" not in record.read_text()


VAULT = """
from mesocosm.errors import ContainerError
from mesocosm.secret_resolver import SecretResolver
class Vault(SecretResolver):
    async def resolve(self, secret):
        if secret.reference.name == "none":
            raise ContainerError("there is none")
        return b'{"auths": {"%s": {}}}' % secret.reference.key.encode()
"""


async def test_credentials_by_reference(
    images: Launching, box: Image, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.install(tmp_path, monkeypatch, "mesocosm.secret_resolvers", VAULT, vault="Vault")
    images.start(secret_resolver="vault")
    request = ImageRequest("box", credentials=Secret(reference=SecretReference("registry", "key")))
    await images.output("true", image=request)
    assert store.asked == [("box", True, {"auths": {"key": {}}})]
    request = ImageRequest("box", credentials=Secret(reference=SecretReference("none")))
    with pytest.raises(ContainerError, match="the secret of the image box cannot be resolved: there is none"):
        await images("true", image=request)
    assert images.left() == []


async def test_credentials_by_reference_need_a_resolver(images: Launching, box: Image) -> None:
    images.start()
    with pytest.raises(ContainerError, match="cannot resolve references; name another one by --secret_resolver"):
        await images("true", image=ImageRequest("box", credentials=Secret(reference=SecretReference("registry"))))
    assert images.left() == []


# Backends.


async def test_the_backend_that_is_used_if_none_is_named(images: Launching, launch: Launch, box: Image) -> None:
    images.start(None)
    provisioner = launch.containerizer().provisioner
    assert provisioner is not None
    assert provisioner.backend == "overlay"


def test_the_backend_where_overlays_cannot_be_mounted(run_directory: Path) -> None:
    """As on overlayfs itself."""
    for name in ("lower", "upper", "work", "merged"):
        (run_directory / name).mkdir()
    options = ",".join(f"{name}dir={run_directory}/{name}" for name in ("lower", "upper", "work"))
    call("mount", "-t", "overlay", "none", "-o", options, run_directory / "merged")
    try:
        assert choose_backend(None, run_directory / "merged").name == "copy"
        with pytest.raises(FlagError, match=r"overlayfs cannot be used in .*; .*, or use the backend copy"):
            choose_backend("overlay", run_directory / "merged")
    finally:
        call("umount", run_directory / "merged")


def test_a_copy_has_all_that_belongs_to_a_file(run_directory: Path) -> None:
    source = layer(run_directory / "source", {"a": "x" * 100_000, "d/b": "b\n"})
    os.link(source / "a", source / "d/c")
    (source / "link").symlink_to("/etc/shadow")
    os.mkfifo(source / "fifo")
    os.mknod(source / "device", 0o60640, os.makedev(7, 9))
    os.setxattr(source / "a", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(source / "link", "trusted.x", b"link", follow_symlinks=False)
    os.setxattr(source / "d", "user.y", b"directory")
    os.chown(source / "a", 5, 6)
    (source / "a").chmod(0o6751)
    os.setxattr(source / "a", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.chown(source / "link", 7, 8, follow_symlinks=False)
    for path in (source / "d/b", source / "link", source / "d"):
        os.utime(path, ns=(10**18, 10**18 + 123), follow_symlinks=False)
    target = run_directory / "target"
    CopyBackend().provision(image("x", source), target, run_directory / "scratch", threading.Event())
    assert described(target) == described(source)
    assert (target / "a").stat().st_ino == (target / "d/c").stat().st_ino


def described(directory: Path) -> dict[str, Any]:
    """All that can be told of each file."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(directory))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_nlink, status.st_mtime_ns),
            {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            },
            path.read_bytes() if path.is_file() and not path.is_symlink() else None,
        )
    return found


def attributes(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def test_a_copy_follows_no_link_of_a_lower_layer(run_directory: Path) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    lower = layer(run_directory / "lower", {})
    (lower / "escape").symlink_to(outside)
    (lower / "file").symlink_to(outside / "file")
    upper = layer(run_directory / "upper", {"escape/inside": "x", "file": "x"})
    target = run_directory / "target"
    CopyBackend().provision(image("x", lower, upper), target, run_directory / "scratch", threading.Event())
    assert list(outside.iterdir()) == []
    assert (target / "escape/inside").read_text() == "x"
