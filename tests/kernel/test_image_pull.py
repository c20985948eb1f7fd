"""Images of other tools and of a real registry, in the store: the files that others unpack, and each layer once."""

from __future__ import annotations

import asyncio
import base64
import bz2
import dataclasses
import gzip
import json
import os
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ImageRequest
from mesocosm.flags import Flags
from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image
from mesocosm.images.settings import ImageSettings
from mesocosm.images.store import ImageStore
from tests import registry as registries
from tests import rootfs as root_file_system
from tests.registry import PASSWORD, USER, Registry, call, entry, layout, need, tar, tree

pytestmark = pytest.mark.kernel

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""`security.capability`, version 2, with CAP_NET_RAW permitted (<linux/capability.h>)."""


@pytest.fixture
async def store(run_directory: Path) -> AsyncIterator[ImageStore]:
    async with opened(run_directory / "store") as opened_store:
        yield opened_store


class opened:  # noqa: N801 - a context manager
    def __init__(self, directory: Path, **settings: Any) -> None:
        self._store = ImageStore(directory, ImageSettings(**settings))

    async def __aenter__(self) -> ImageStore:
        return self._store

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()


@pytest.fixture
def registry(run_directory: Path) -> Iterator[Registry]:
    with registries.registry(run_directory / "registry") as running:
        yield running


@pytest.fixture
def image(run_directory: Path) -> Path:
    """An OCI layout, made by umoci, with most of what there can be in two layers."""
    need("umoci")
    path, bundle = run_directory / "oci", run_directory / "bundle"
    call("umoci", "init", "--layout", path)
    call("umoci", "new", "--image", f"{path}:1")
    call("umoci", "unpack", "--image", f"{path}:1", bundle)
    fill(bundle / "rootfs")
    call("umoci", "repack", "--image", f"{path}:1", bundle)
    shutil.rmtree(bundle)
    call("umoci", "unpack", "--image", f"{path}:1", bundle)
    change(bundle / "rootfs")
    call("umoci", "repack", "--image", f"{path}:1", bundle)
    shutil.rmtree(bundle)
    call("umoci", "config", "--image", f"{path}:1", "--config.cmd", "/bin/sh", "--config.env", "COLOUR=blue")
    return path


def fill(root: Path) -> None:
    for name in ("bin", "etc", "var/lib/gone", "var/lib/kept", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "bin/su").write_bytes(os.urandom(300_000))
    os.chown(root / "bin/su", 0, 12)
    (root / "bin/su").chmod(0o6755)
    (root / "bin/ping").write_text("ping")
    os.setxattr(root / "bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "bin/ping", "user.note", b"\x00\xff binary")
    os.link(root / "bin/ping", root / "bin/ping6")
    (root / "bin/sh").symlink_to("su")
    os.chown(root / "bin/sh", 1000, 1000, follow_symlinks=False)
    os.mkfifo(root / "var/pipe", 0o620)
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "dev/loop", stat.S_IFBLK | 0o660, os.makedev(7, 0))
    (root / ("long-" * 40)).write_text("a name of 200 characters")
    (root / "etc" / ("ä" * 60)).write_text("not ASCII")
    (root / "etc/old").write_text("old")
    os.utime(root / "etc/old", ns=(1, 1_234_567_890_000_000_000))
    (root / "var/lib/gone/file").write_text("gone")
    (root / "var/lib/kept/file").write_text("kept")
    (root / "var/lib/turns").write_text("a file that turns directory")


def change(root: Path) -> None:
    shutil.rmtree(root / "var/lib/gone")
    (root / "etc/old").unlink()
    (root / "var/lib/turns").unlink()
    (root / "var/lib/turns").mkdir()
    (root / "var/lib/turns/inside").write_text("inside")
    (root / "var/lib/kept/file").write_text("changed")
    (root / "bin/sh").unlink()
    (root / "bin/sh").mkdir()


@pytest.fixture
def merged(run_directory: Path) -> Any:
    """What overlayfs makes of the layers of an image."""
    target = run_directory / "merged"
    target.mkdir()

    def mount(image: Image) -> dict[str, tuple[Any, ...]]:
        if len(image.layers) == 1:
            return tree(image.layers[0])
        lower = ":".join(map(str, reversed(image.layers)))
        call("mount", "-t", "overlay", "none", "-o", f"lowerdir={lower}", target)
        try:
            return tree(target)
        finally:
            call("umount", target)

    return mount


def unpacked(reference: str, directory: Path) -> dict[str, tuple[Any, ...]]:
    """What umoci makes of an image."""
    call("umoci", "unpack", "--image", reference, directory)
    return tree(directory / "rootfs")


@pytest.mark.parametrize(
    "place", ["registry", "registry with schema 2", "registry with zstd", "oci", "docker-archive", "oci-archive"]
)
async def test_files_are_those_that_umoci_unpacks(
    place: str, image: Path, run_directory: Path, store: ImageStore, registry: Registry, merged: Any
) -> None:
    expected = unpacked(f"{image}:1", run_directory / "expected")
    if place == "oci":
        reference = f"oci:{image}:1"
    elif place == "registry with zstd":
        plain = f"dir:{run_directory}/plain"  # What is compressed already stays as it is.
        call("skopeo", "copy", "-q", "--dest-decompress", f"oci:{image}:1", plain)
        reference = registry.push(plain, "team/app:1", "--dest-compress-format", "zstd")
    elif place.startswith("registry"):
        form = "v2s2" if "schema 2" in place else "oci"
        reference = registry.push(f"oci:{image}:1", "team/app:1", "--format", form)
    else:
        reference = f"{place}:{run_directory}/image.tar"
        call("skopeo", "copy", "-q", f"oci:{image}:1", f"{reference}:team/app:1")
    found = await store.get(reference)
    assert merged(found) == expected
    assert len(expected) > 15, "nothing was compared"
    assert found.config.cmd == ("/bin/sh",)
    assert found.config.environment == ("COLOUR=blue",)


async def test_layers_are_compressed_in_any_way_that_images_know(run_directory: Path, store: ImageStore) -> None:
    """Gzip in several members, as lazily loaded images have it; zstd in several frames; not at all."""
    layers = [tar((entry(f"file{number}"), os.urandom(700_000))) for number in range(3)]
    parts = [layers[0][:100_000], layers[0][100_000:]]
    gzipped = b"".join(map(gzip.compress, parts))
    zstd = b"".join(zstandard.compress(part) for part in (layers[1][:5000], layers[1][5000:]))
    path = layout(run_directory / "one", layers, compressed=[gzipped, zstd, layers[2]])
    found = await store.get(f"oci:{path}")
    assert [(layer / f"file{number}").stat().st_size for number, layer in enumerate(found.layers)] == [700_000] * 3
    path = layout(run_directory / "other", layers[:1], compressed=[bz2.compress(layers[0])])
    with pytest.raises(ImageError, match="the layer is compressed by bzip2; gzip and zstd are what images may use"):
        async with opened(run_directory / "fresh") as fresh:
            await fresh.get(f"oci:{path}")


async def test_a_registry_with_passwords(run_directory: Path, image: Path, store: ImageStore) -> None:
    with registries.registry(run_directory / "private", authenticated=True) as private:
        reference = private.push(f"oci:{image}:1", "app:1")
        with pytest.raises(ImageError, match=rf"{private.address} asks for credentials: authentication required"):
            await store.get(reference)
        wrong = docker_config(private, "wrong")
        with pytest.raises(ImageError, match=rf"{private.address} does not accept the credentials"):
            await store.get(reference, docker_config=wrong)
        assert await store.get(reference, docker_config=docker_config(private, PASSWORD))
        async with opened(run_directory / "other", config=docker_config(private, PASSWORD)) as other:
            assert await other.get(reference)


def docker_config(private: Registry, password: str) -> dict[str, Any]:
    return {"auths": {private.address: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}}


async def test_a_registry_with_tls(
    run_directory: Path, image: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = registries.certificate(run_directory)
    with registries.registry(run_directory / "secure", certificate=certificate) as secure:
        reference = secure.push(f"oci:{image}:1", "app:1")
        with pytest.raises(ImageError, match=r"TLS with 127.0.0.1:\d+ fails: self-signed certificate; .*SSL_CERT_FILE"):
            await store.get(reference)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with opened(run_directory / "other") as other:
            assert await other.get(reference)


async def test_what_is_asked_for_at_the_same_time_is_pulled_once(
    image: Path, store: ImageStore, registry: Registry
) -> None:
    """One image by many, and two images that share their layers."""
    first, second = (registry.push(f"oci:{image}:1", name) for name in ("one:1", "two:1"))
    found = await asyncio.gather(*(store.get(reference) for reference in (first, second, first, second, first)))
    assert len({each.layers for each in found}) == 1
    assert registry.requests("/blobs/") == 2 + 2, "two layers, and a config for each image"
    assert registry.requests("/manifests/") == 2
    await store.get(first)
    assert registry.requests("/manifests/") == 2, "it is on disk"
    await store.get(first, cached=False)
    assert registry.requests("/manifests/") == 3
    assert registry.requests("/blobs/") == 5, "the config, and no layer"


async def test_a_container_of_an_image_of_a_registry(image: Path, registry: Registry, flags: Flags) -> None:
    """All the way: pulled, unpacked, mounted, run, and removed when nobody uses it any more."""
    if reason := root_file_system.missing():
        pytest.skip(reason)
    busybox = tar((entry("bin/sh", mode=0o755), Path(str(shutil.which("busybox"))).read_bytes()))
    path = layout(image.parent / "busybox", [busybox], config={"Entrypoint": ["/bin/sh", "-c"]})
    reference = registry.push(f"oci:{path}:test", "busybox:1")
    chosen = dataclasses.replace(
        flags,
        isolation="filesystem/linux,namespaces/pid,docker/runtime",
        image_providers=("docker",),
        docker_store_dir=image.parent / "store",
    )
    async with MesosContainerizer(chosen) as containerizer:
        container = ContainerID("web")
        config = ContainerConfig(CommandInfo(None, ("exit 7",), shell=False), image=ImageRequest(reference))
        await containerizer.launch(container, config)
        ended = await containerizer.wait(container)
        assert os.waitstatus_to_exitcode(ended.status or 0) == 7
        await containerizer.remove(container)
        assert (await containerizer.prune_images([])).images == (reference,)


async def test_a_digest_names_an_image(image: Path, store: ImageStore, registry: Registry) -> None:
    reference = registry.push(f"oci:{image}:1", "app:1")
    digest = (await store.get(reference)).digest
    pinned = await store.get(f"{registry.address}/app@{digest}")
    assert pinned.digest == digest
    assert pinned.reference == f"{registry.address}/app@{digest}"
    other = f"sha256:{'0' * 64}"
    with pytest.raises(ImageError, match="has no such image"):
        await store.get(f"{registry.address}/app@{other}")


async def test_a_directory_of_archives_is_a_registry(image: Path, run_directory: Path) -> None:
    archives = run_directory / "archives"
    archives.mkdir()
    for file, name in (("app.tar", "app:latest"), ("app:2.tar", "app:2")):
        call("skopeo", "copy", "-q", f"oci:{image}:1", f"docker-archive:{run_directory}/image.tar:{name}")
        (run_directory / "image.tar").rename(archives / file)
    shutil.copytree(image, archives / "layout")
    async with opened(run_directory / "store", registry=str(archives)) as store:
        assert (await store.get("app")).reference == "docker.io/library/app:latest"
        assert (await store.get("app:2")).reference == "docker.io/library/app:2"
        assert (await store.get("layout:1")).config.cmd == ("/bin/sh",)
        with pytest.raises(ImageError, match=r"app\.tar has no image 'app:3'; it has .*app:latest"):
            await store.get("app:3")
        with pytest.raises(ImageError, match="files of this machine have no digests of a registry; name the image"):
            await store.get(f"app@sha256:{'0' * 64}")
        with pytest.raises(ImageError, match=r"there is no .*/none:latest\.tar, and no .*/none\.tar"):
            await store.get("none")
    async with opened(run_directory / "store", registry=str(archives / "app.tar")) as store:
        assert (await store.get("app:latest")).config.cmd == ("/bin/sh",)


async def test_an_archive_from_before_manifests(run_directory: Path, store: ImageStore) -> None:
    """Only `repositories`, and a directory for each layer with the id of its parent."""
    lower, upper = tar((entry("etc/a"), b"a")), tar((entry("etc/b"), b"b"))
    config = b'{"id": "top", "parent": "base", "config": {"Entrypoint": ["/run"], "Env": null}}'
    data = tar(
        (entry("repositories"), b'{"old": {"1": "top"}}'),
        (entry("base/json"), b'{"id": "base"}'),
        (entry("base/layer.tar"), lower),
        (entry("top/json"), config),
        (entry("top/layer.tar"), upper),
    )
    (run_directory / "old.tar").write_bytes(data)
    found = await store.get(f"docker-archive:{run_directory}/old.tar:old:1")
    assert found.config.entrypoint == ("/run",)
    assert [sorted(path.name for path in (layer / "etc").iterdir()) for layer in found.layers] == [["a"], ["b"]]


async def test_a_manifest_list_has_an_image_for_this_machine(
    run_directory: Path, store: ImageStore, registry: Registry, image: Path
) -> None:
    """Made of two images by hand, as no tool here makes one, and served by the registry."""
    index = json.loads((image / "index.json").read_text())["manifests"][0]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    others = [
        index | {"platform": {"os": "linux", "architecture": name}, "annotations": {}} for name in ("s390x", machine)
    ]
    other = layout(run_directory / "other", [tar((entry("other"), b""))])
    shutil.copytree(other / "blobs", image / "blobs", dirs_exist_ok=True)
    wrong = json.loads((other / "index.json").read_text())["manifests"][0]
    others[0] |= {"digest": wrong["digest"], "size": wrong["size"]}
    content = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": others}
    ).encode()
    name = registries.digest(content)
    (image / "blobs" / name.replace(":", "/")).write_bytes(content)
    listed = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": name, "size": len(content)}
    listed["annotations"] = {"org.opencontainers.image.ref.name": "multi"}  # type: ignore[assignment]
    (image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    call("skopeo", "copy", "-q", "--all", *registry.arguments, f"oci:{image}:multi", f"docker://{registry.address}/m:1")
    for reference in (f"oci:{image}:multi", f"{registry.address}/m:1"):
        assert (await store.get(reference)).digest == index["digest"]


async def test_layers_that_leave_directories_out_keep_those_below(run_directory: Path, store: ImageStore) -> None:
    """The mode, owner and attributes of `srv` and of the root are those of the lower layer."""
    lower = tar(
        entry("./", tarfile.DIRTYPE, mode=0o750, uid=5),
        entry("srv/", tarfile.DIRTYPE, mode=0o2770, uid=7, gid=8, pax_headers={"SCHILY.xattr.user.colour": "blue"}),
        (entry("srv/lower"), b"lower"),
    )
    upper = tar((entry("srv/upper"), b"upper"), (entry("other/file"), b""))
    found = await store.get(f"oci:{layout(run_directory / 'one', [lower, upper])}")
    root, srv = found.layers[1], found.layers[1] / "srv"
    assert (stat.S_IMODE(srv.stat().st_mode), srv.stat().st_uid, srv.stat().st_gid) == (0o2770, 7, 8)
    assert os.getxattr(srv, "user.colour") == b"blue"
    assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_uid) == (0o750, 5)
    assert stat.S_IMODE((root / "other").stat().st_mode) == 0o755
    alone = await store.get(f"oci:{layout(run_directory / 'two', [upper])}")
    assert stat.S_IMODE((alone.layers[0] / "srv").stat().st_mode) == 0o755, "the same layer, on another"
    assert (alone.layers[0] / "srv/upper").stat().st_ino == (srv / "upper").stat().st_ino, "its files are there once"
