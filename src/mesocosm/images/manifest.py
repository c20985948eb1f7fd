"""What describes an image: manifests, indexes of them, and configs, of OCI and of Docker (schema 2).

Source: github.com/opencontainers/image-spec, manifest.md, image-index.md, config.md;
github.com/distribution/distribution, manifest-v2-2.md.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from mesocosm.images import digests
from mesocosm.images.errors import ImageError
from mesocosm.images.image import ImageConfig

LARGEST = 4 << 20
"""Bytes of a manifest, index or config: what registries take."""
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",  # Of some early writers.
)
_ARCHITECTURES = {
    "x86_64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("v8", "")),
    "armv8l": ("arm", ("v8", "v7", "v6", "v5", "")),
    "armv7l": ("arm", ("v7", "", "v6", "v5")),
    "armv6l": ("arm", ("v6", "", "v5")),
    "i386": ("386", ("",)),
    "i686": ("386", ("",)),
    "arm64": ("arm64", ("v8", "")),
}
"""Go's names for what uname(2) says, and variants that run there, the best first."""
NAME_ANNOTATION = "org.opencontainers.image.ref.name"


class Platform(msgspec.Struct, frozen=True):
    """What an image in an index is for."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """What a manifest or index says of something else."""

    digest: str
    size: int
    media_type: str = ""
    platform: Platform | None = None
    annotations: dict[str, str] | None = None

    def __post_init__(self) -> None:
        digests.checked(self.digest)
        if self.size < 0:
            raise ImageError(f"{self.digest} has a negative size")


class Manifest(msgspec.Struct, frozen=True):
    """One image: its config, and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(msgspec.Struct, frozen=True):
    """Images, of which each machine takes one."""

    manifests: tuple[Descriptor, ...]


class _Kind(msgspec.Struct, rename="camel"):
    """What tells manifests apart."""

    schema_version: int | None = None
    manifests: Any = None
    fs_layers: Any = None


class _Container(msgspec.Struct, rename="pascal"):
    entrypoint: tuple[str, ...] | str | None = None
    cmd: tuple[str, ...] | str | None = None
    env: tuple[str, ...] | None = None
    working_dir: str | None = None
    user: str | None = None
    labels: dict[str, str] | None = None


class _RootFS(msgspec.Struct):
    diff_ids: tuple[str, ...] | None = None


class _Config(msgspec.Struct):
    config: _Container | None = None
    rootfs: _RootFS | None = None
    created: str | None = None
    architecture: str | None = None
    variant: str | None = None


Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The config of an image, and the digests of its layers when decompressed, the lowest first."""

    config: ImageConfig
    diff_ids: tuple[str, ...]


def parse(data: bytes) -> Manifest | Index:
    """The manifest or index in `data`. Raises ImageError."""
    kind = decode(data, _Kind, "the manifest")
    if kind.fs_layers is not None or kind.schema_version == 1:
        raise ImageError(
            "the manifest is of schema 1, which registries gave up in 2019", "push the image again with a newer tool"
        )
    if kind.manifests is not None:
        return decode(data, Index, "the index")
    manifest = decode(data, Manifest, "the manifest")
    if manifest.config.media_type and manifest.config.media_type not in _CONFIG_TYPES:
        raise ImageError(f"it is no image of containers: its config is {manifest.config.media_type}")
    if not manifest.layers:
        raise ImageError("the manifest has no layers")
    return manifest


def parse_config(data: bytes) -> ConfigFile:
    """The config in `data`. Raises ImageError."""
    found = decode(data, _Config, "the config of the image")
    container = found.config or _Container()
    diff_ids = tuple(digests.checked(diff_id) for diff_id in (found.rootfs and found.rootfs.diff_ids) or ())
    architecture = "/".join(part for part in (found.architecture, found.variant) if part)
    config = ImageConfig(
        entrypoint=_words(container.entrypoint),
        cmd=_words(container.cmd),
        environment=container.env or (),
        working_directory=container.working_dir or None,
        user=container.user or None,
        labels=tuple(sorted((container.labels or {}).items())),
        created=found.created or None,
        architecture=architecture or None,
    )
    texts = (*config.entrypoint, *config.cmd, *config.environment, config.working_directory or "", config.user or "")
    if any("\0" in text for text in texts):
        raise ImageError("the config of the image has a NUL in it, which no argument or variable can have")
    return ConfigFile(config, diff_ids)


def _words(value: tuple[str, ...] | str | None) -> tuple[str, ...]:
    """Old images have one word as a text (Docker's strslice)."""
    return (value,) if isinstance(value, str) else value or ()


def decode(data: bytes, kind: type[Kind], what: str) -> Kind:
    """The JSON in `data`. Raises ImageError if it is none, or `what` may not be so."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{what} makes no sense: {error}") from error


def host_platforms() -> tuple[Platform, ...]:
    """What can run on this machine, the best first."""
    machine = platform.machine()
    architecture, variants = _ARCHITECTURES.get(machine, (machine, ("",)))
    return tuple(Platform("linux", architecture, variant) for variant in variants)


def choose(manifests: Sequence[Descriptor], wanted: Sequence[Platform] | None = None) -> Descriptor:
    """The one of `manifests` for this machine, or that of the first of `wanted`. Raises ImageError."""
    wanted = wanted or host_platforms()
    for platform_ in wanted:
        for found in manifests:
            if found.platform == platform_:
                return found
    unnamed = [found for found in manifests if found.platform is None]
    if len(unnamed) == 1:
        return unnamed[0]
    # Attestations are called so.
    there = sorted({str(found.platform) for found in manifests if found.platform} - {"unknown/unknown"})
    raise ImageError(f"there is no image for {wanted[0]}", f"there is {', '.join(there)}" if there else None)
