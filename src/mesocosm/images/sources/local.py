"""Images in files of this machine: OCI layouts, and archives of them or of `docker save`.

Source: github.com/opencontainers/image-spec, image-layout.md; github.com/moby/docker-image-spec, v1.2.md (archives with
`manifest.json`) and v1.md (those with `repositories`, and a directory for each layer).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

import msgspec

from mesocosm.concurrency import Work
from mesocosm.images import digests, manifest
from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.process import Blob
from mesocosm.images.manifest import ConfigFile, Descriptor, Index
from mesocosm.images.reference import DEFAULT_TAG, DOCKER_ARCHIVE, OCI_LAYOUT, LocalReference, Reference, parse
from mesocosm.images.sources.base import Description, Layer
from mesocosm.images.sources.places import Archive, Directory, Part, Place, read

_INDEX, _LAYOUT, _MANIFEST, _REPOSITORIES = "index.json", "oci-layout", "manifest.json", "repositories"
_MOST_INDEXES = 4
"""Indexes in indexes."""
_MOST_PARENTS = 127
"""Layers, which Docker has at most."""
_CHUNK = 1 << 20


class _Saved(msgspec.Struct, rename="pascal"):
    """An image in the `manifest.json` of `docker save`."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


class LocalSource:
    """The image that `reference` names. A compressed archive is copied to `scratch` while it is read."""

    def __init__(self, reference: LocalReference, scratch: Path) -> None:
        self.place = f"{reference.transport}:{reference.path}"
        self._reference = reference
        self._scratch = scratch
        self._files: Place | None = None
        self._work = Work()

    async def describe(self) -> Description:
        """What is called so now. Raises ImageError, OSError."""
        return await self._work.finish(asyncio.to_thread(self._describe))

    @contextlib.asynccontextmanager
    async def open(self, layer: Layer) -> AsyncIterator[Blob]:
        """A layer of it, to be read. Raises ImageError, OSError."""
        assert self._files is not None, "it is described first"
        part = self._files.open(layer.name)  # Not in a thread: who is cancelled meanwhile would never get it.
        try:
            # The digest of a blob is that of its decompressed layer, and more; diff ids are verified in any case.
            yield Blob(part.descriptor, part.offset, part.size)
        finally:
            os.close(part.descriptor)

    async def close(self) -> None:
        """Closes the archive, when no thread reads it any more."""
        await self._work.wait()
        if self._files is not None:
            self._files.close()
            self._files = None

    def _describe(self) -> Description:
        path, name = self._reference.path, self._reference.name
        if self._files is None:
            self._files = _opened(self._reference, self._scratch)
        files = self._files
        if self._reference.transport == DOCKER_ARCHIVE and _MANIFEST in files:
            return _saved(files, name, path)
        if self._reference.transport == DOCKER_ARCHIVE and _REPOSITORIES in files:
            return _saved_long_ago(files, name, path)
        if _INDEX in files:
            return _laid_out(files, name, path)
        wanted = (_MANIFEST, _REPOSITORIES, _INDEX) if self._reference.transport == DOCKER_ARCHIVE else (_INDEX,)
        raise ImageError(f"{path} has no images: there is no {' or '.join(wanted)} in it")


def _opened(reference: LocalReference, scratch: Path) -> Place:
    try:
        if reference.transport == OCI_LAYOUT:
            return Directory(reference.path)
        return Archive(reference.path, scratch)
    except FileNotFoundError:
        raise ImageError(f"there is no {reference.path}") from None


def _laid_out(files: Place, name: str | None, path: Path) -> Description:
    """The image of an OCI layout that is called `name`, or the only one there is for this machine."""
    index = manifest.decode(read(files, _INDEX, manifest.LARGEST), Index, f"{_INDEX} of {path}")
    found = _named(index, name, path)
    for _ in range(_MOST_INDEXES):
        data = _blob(files, found)
        content = manifest.parse(data)
        if not isinstance(content, Index):
            config = manifest.parse_config(_blob(files, content.config))
            layers = tuple(
                _layer(diff_id, blob) for diff_id, blob in zip(config.diff_ids, content.layers, strict=False)
            )
            return Description(found.digest, config, layers)
        found = manifest.choose(content.manifests)
    raise ImageError(f"{path} has indexes in indexes, more than {_MOST_INDEXES} deep")


def _named(index: Index, name: str | None, path: Path) -> Descriptor:
    named = [((found.annotations or {}).get(manifest.NAME_ANNOTATION), found) for found in index.manifests]
    names = {own for own, _ in named if own}
    if not named:
        raise ImageError(f"{path} has no images")
    if not names or (name is None and len(names) == 1):
        candidates = index.manifests
    else:
        chosen = _pick(name, names, path, tags=True)
        candidates = tuple(found for own, found in named if own == chosen)
    return candidates[0] if len(candidates) == 1 else manifest.choose(candidates)


def _layer(diff_id: str, blob: Descriptor) -> Layer:
    return Layer(diff_id, _blob_name(blob), blob.size)


def _blob_name(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


def _blob(files: Place, blob: Descriptor) -> bytes:
    data = read(files, _blob_name(blob), manifest.LARGEST)
    digests.verify(data, blob.digest, _blob_name(blob))
    return data


def _saved(files: Place, name: str | None, path: Path) -> Description:
    images = manifest.decode(read(files, _MANIFEST, manifest.LARGEST), tuple[_Saved, ...], f"{_MANIFEST} of {path}")
    names = {tag: image for image in images for tag in image.repo_tags or ()}
    only = len(images) == 1 and (name is None or not names)
    image = images[0] if only else names[_pick(name, names, path)]
    data = read(files, image.config, manifest.LARGEST)
    config = manifest.parse_config(data)
    if len(config.diff_ids) != len(image.layers):
        raise ImageError(
            f"{path}: the config of the image has {len(config.diff_ids)} layers, {_MANIFEST} another number"
        )
    layers = (Layer(diff_id, layer, None) for diff_id, layer in zip(config.diff_ids, image.layers, strict=True))
    return Description(digests.of(data), config, tuple(layers))


def _pick(name: str | None, names: Collection[str], path: Path, *, tags: bool = False) -> str:
    """Which of the `names` there is meant by `name`, as Docker reads both; of a layout, they may be `tags` alone."""
    there = ", ".join(sorted(names)) or "none with a name"
    if name is None:
        raise ImageError(f"{path} has several images", f"write :NAME after it; it has {there}")
    wanted = _full(name)
    for candidate in names:
        if candidate == name or (wanted is not None and _full(candidate) == wanted):
            return candidate
    if tags and (tag := name.rpartition(":")[2]) in names:
        return tag
    raise ImageError(f"{path} has no image {name!r}", f"it has {there}")


def _full(name: str) -> str | None:
    try:
        reference = parse(name)
    except ImageError:
        return None
    if not isinstance(reference, Reference):
        return None
    return f"{reference.registry}/{reference.repository}:{reference.tag or DEFAULT_TAG}"


def _saved_long_ago(files: Place, name: str | None, path: Path) -> Description:
    """An image of an archive from before Docker 1.10: a layer is a directory, with the id of its parent in `json`."""
    repositories = manifest.decode(
        read(files, _REPOSITORIES, manifest.LARGEST), dict[str, dict[str, str]], f"{_REPOSITORIES} of {path}"
    )
    ids = {f"{repository}:{tag}": top for repository, tags in repositories.items() for tag, top in tags.items()}
    top = next(iter(ids.values())) if name is None and len(set(ids.values())) == 1 else ids[_pick(name, ids, path)]
    data = read(files, f"{top}/json", manifest.LARGEST)
    names = [f"{layer}/layer.tar" for layer in reversed(list(_with_parents(files, top)))]
    diff_ids = tuple(_digest_of(files, layer) for layer in names)
    config = ConfigFile(manifest.parse_config(data).config, diff_ids)
    layers = (Layer(diff_id, layer, None) for diff_id, layer in zip(diff_ids, names, strict=True))
    return Description(digests.of(data), config, tuple(layers))


class _Ancestry(msgspec.Struct):
    parent: str | None = None


def _with_parents(files: Place, top: str) -> Iterator[str]:
    layer: str | None = top
    for _ in range(_MOST_PARENTS):
        if not layer:
            return
        yield layer
        layer = manifest.decode(read(files, f"{layer}/json", manifest.LARGEST), _Ancestry, f"{layer}/json").parent
    raise ImageError(f"the image has more than {_MOST_PARENTS} layers")


def _digest_of(files: Place, name: str) -> str:
    """These archives do not say the digests of their layers, which are not compressed."""
    part = files.open(name)
    try:
        return _hashed(part)
    finally:
        os.close(part.descriptor)


def _hashed(part: Part) -> str:
    found, position, end = hashlib.sha256(), part.offset, part.offset + part.size
    while position < end and (data := os.pread(part.descriptor, min(_CHUNK, end - position), position)):
        found.update(data)
        position += len(data)
    return f"sha256:{found.hexdigest()}"
