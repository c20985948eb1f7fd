"""The provisioner: root file systems of containers, out of the images in a store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import json
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, ImageRequest, ProvisionedImage
from mesocosm.dataclass import replace
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.images.backends.base import Backend
from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image
from mesocosm.images.paths import (
    container_directory,
    containers_directory,
    find_containers,
    layers_file,
    mount_points_directory,
    provisioner_directory,
    read_layers,
    removed_directory,
    rootfs_directory,
    scratch_directory,
)
from mesocosm.images.reference import DOCKER_HUB
from mesocosm.images.removal import Removal
from mesocosm.images.settings import ImageSettings
from mesocosm.images.store import ImageStore, Pruned
from mesocosm.linux.overlay import MOST_LAYERS
from mesocosm.linux.replace import replace_file
from mesocosm.secret_resolver import SecretResolver, create_resolver, resolve

_LAYERED = "overlay"
_DEFAULT_BACKENDS = (_LAYERED, "copy")
"""The first that works is used. `bind` has to be asked for: with it, root file systems are read-only."""
_PRIVATE = 0o700
"""Nobody but root comes to the programs of an image but through its container, be they setuid."""
_FORMAT_VERSION = 1


@dataclass(slots=True)
class _Held:
    """What a container has of this process: its images, and what is being made of them."""

    images: list[Image] = field(default_factory=list)
    making: asyncio.Future[list[ProvisionedImage]] | None = None
    stop: threading.Event = field(default_factory=threading.Event)


class Provisioner:
    """Makes root file systems below `directory`, and removes them. One process at a time may use that."""

    def __init__(
        self,
        store: ImageStore,
        backend: Backend,
        directory: Path,
        resolver: SecretResolver,
        mount_points: Path | None = None,
    ) -> None:
        """`mount_points` is a layer for all root file systems, below those of the image."""
        self._removal = Removal(removed_directory(directory))
        self._store = store
        self._backend = backend
        self._directory = directory
        self._resolver = resolver
        self._mount_points = mount_points
        self._held: dict[ContainerID, _Held] = {}
        self._layers: dict[ContainerID, tuple[Path, ...]] = {}
        self._structure = threading.Lock()  # Of directories that containers share.

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """The provisioner for `flags`. Raises FlagError for a backend that does not work here, and OSError."""
        directory = provisioner_directory(flags.work_dir.absolute())
        directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        directory.chmod(_PRIVATE)
        for probe in directory.glob("probe-*"):  # Of one that was killed.
            shutil.rmtree(probe)
        settings = ImageSettings(
            registry=flags.docker_registry,
            config=flags.docker_config,
            mirrors={DOCKER_HUB: flags.docker_registry_mirrors},
        )
        store = ImageStore(flags.docker_store_dir.absolute(), settings)
        store.check()
        backend = choose_backend(flags.image_provisioner_backend, directory)
        resolver = create_resolver(flags.secret_resolver)
        if backend.name != _LAYERED:
            return cls(store, backend, directory, resolver)
        return cls(store, backend, directory, resolver, _make_mount_points(directory, flags.sandbox_directory))

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._backend.name

    @property
    def remove_errors(self) -> int:
        """How often a root file system could not be removed."""
        return self._removal.errors

    def time_pulls(self, record: Callable[[float], None]) -> None:
        """Has `record` told the seconds that each pull of an image takes."""
        self._store.on_pulled = record

    async def recover(self, known: Collection[ContainerID]) -> None:
        """Takes up what the `known` containers use, and removes what there is of others. Raises OSError, RecoveryError.

        Others are those that ended when nobody saw it, and those whose launch did not come so far as to be on record.
        """
        await self._store.register(self._directory)
        await self._removal.recover()
        for container_id in reversed(await asyncio.to_thread(find_containers, self._directory)):
            if container_id in known:
                self._layers[container_id] = await asyncio.to_thread(read_layers, self._directory, container_id)
            elif not any(other.is_within(container_id) for other in known):
                await self._remove(container_id)

    async def provision(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """`config` with the images that it asks for provisioned, which are pulled if they are not here.

        Raises ContainerError and OSError. Whatever comes of it, `destroy` gives it back.
        """
        held = self._held[container_id] = _Held()
        for request in config.images:
            held.images.append(await self._get(container_id, request))
        has_root = config.image is not None
        make = partial(self._make, container_id, held.images, held.stop, has_root=has_root)
        if self._backend.copies:
            held.making = asyncio.ensure_future(asyncio.to_thread(make))
            made = await asyncio.shield(held.making)
        else:
            made = make()  # A few directories: a thread would take as long to begin.
        self._layers[container_id] = _layers_of(held.images)
        own = made.pop(0) if has_root else None
        volumes = zip(config.image_volumes, made, strict=True)
        return replace(
            config,
            rootfs=config.rootfs if own is None else own.path,
            provisioned=own,
            image_volumes=tuple(replace(volume, provisioned=each) for volume, each in volumes),
        )

    async def destroy(self, container_id: ContainerID) -> None:
        """Gives back what a container has; one that nothing is known of is no error. Raises OSError.

        What it has on disk is out of the way then, and removed soon: `close` waits for that.
        """
        if (held := self._held.get(container_id)) is not None and held.making is not None:
            held.stop.set()
            await asyncio.wait([held.making])
            held.making.exception()  # Read, as whoever asked for it may be gone.
        if held is not None or container_id in self._layers:
            await self._remove(container_id)
        self._layers.pop(container_id, None)
        for image in self._held.pop(container_id, _Held()).images:
            await self._store.release(image)

    async def prune(self, excluded: Collection[str]) -> Pruned:
        """Removes the images that no container uses, but those `excluded`. Raises ImageError, OSError."""
        in_use = {layer for layers in self._layers.values() for layer in layers}
        in_use |= {layer for held in self._held.values() for layer in _layers_of(held.images)}
        return await self._store.prune(excluded, in_use)

    async def close(self) -> None:
        """Lets go of the store. Containers keep what they have."""
        await self._removal.finish()
        await self._store.close()

    async def _remove(self, container_id: ContainerID) -> None:
        """Has the directory of a container removed, and removes those of its parents that nothing is in any more."""
        path = container_directory(self._directory, container_id)
        await self._removal.take(path)
        if container_id.parent is not None:
            await asyncio.to_thread(self._remove_empty, path.parent)

    async def _get(self, container_id: ContainerID, request: ImageRequest) -> Image:
        config = None
        if request.credentials is not None:
            what = f"the image {request.reference}"
            config = _docker_config(request, await resolve(self._resolver, container_id, what, request.credentials))
        return await self._store.get(request.reference, cached=request.cached, docker_config=config)

    # What blocks.

    def _make(
        self, container_id: ContainerID, images: Sequence[Image], stop: threading.Event, *, has_root: bool
    ) -> list[ProvisionedImage]:
        """Records the layers, and then uses them; the first for the container's root if it `has_root`.

        Raises ImageError, OSError.
        """
        with self._structure:
            container_directory(self._directory, container_id).mkdir(parents=True, exist_ok=True)
        self._write_layers(container_id, _layers_of(images))
        made = []
        for number, image in enumerate(images):
            rootfs = rootfs_directory(self._directory, container_id, number)
            scratch = scratch_directory(self._directory, container_id, number)
            used = self._with_mount_points(image) if has_root and not number else image
            made.append(self._backend.provision(used, rootfs, scratch, stop))
        return made

    def _with_mount_points(self, image: Image) -> Image:
        if self._mount_points is None or len(image.layers) >= MOST_LAYERS:
            return image
        return replace(image, layers=(self._mount_points, *image.layers))

    def _remove_empty(self, path: Path) -> None:
        with self._structure:
            while path != containers_directory(self._directory):
                try:
                    path.rmdir()
                except FileNotFoundError:  # Another one that was nested in the same container was the last.
                    pass
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise
                path = path.parent

    def _write_layers(self, container_id: ContainerID, layers: Sequence[Path]) -> None:
        record = {"version": _FORMAT_VERSION, "layers": [str(layer) for layer in layers]}
        replace_file(layers_file(self._directory, container_id), json.dumps(record).encode())


def _make_mount_points(directory: Path, sandbox_directory: str) -> Path:
    """The layer with what is mounted on in every root file system, so that nobody has to make it in each.

    What the image has in those places counts, as its layers are above this one. Raises OSError.
    """
    root = mount_points_directory(directory)
    for place in ("dev", "proc", "sys", "etc", sandbox_directory.strip("/")):
        for path in reversed((root / place, *(root / place).parents)):
            if path.is_relative_to(root):
                path.mkdir(exist_ok=True)
                path.chmod(0o755)  # Whatever the umask is.
    for name in ("hosts", "hostname", "resolv.conf"):
        path = root / "etc" / name
        path.touch()
        path.chmod(0o644)
    return root


def choose_backend(name: str | None, directory: Path) -> Backend:
    """The backend called `name`, or the best that works in `directory`. Raises FlagError for one that does not."""
    if name is not None:
        try:
            return _backend(name).create(directory)
        except UnsupportedError as error:
            raise FlagError(f"--image_provisioner_backend: {name!r}: {error.message}", error.hint) from error
    for candidate in _DEFAULT_BACKENDS[:-1]:
        with contextlib.suppress(UnsupportedError):
            return _backend(candidate).create(directory)
    return _backend(_DEFAULT_BACKENDS[-1]).create(directory)


def _backend(name: str) -> type[Backend]:
    module = importlib.import_module(f"mesocosm.images.backends.{name}")
    kind: type[Backend] = getattr(module, f"{name.capitalize()}Backend")
    return kind


def _layers_of(images: Collection[Image]) -> tuple[Path, ...]:
    """The layers of all, each once."""
    return tuple(dict.fromkeys(layer for image in images for layer in image.layers))


def _docker_config(request: ImageRequest, credentials: bytes) -> dict[str, object]:
    """The credentials that came with a request. Raises ImageError if they are none."""
    try:
        config = json.loads(credentials)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ImageError(
            f"{request.reference}: the credentials of the image are no JSON object",
            "give the content of a ~/.docker/config.json",
        )
    return config
