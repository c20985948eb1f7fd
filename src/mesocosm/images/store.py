"""The store: images on disk, each layer once, for all processes of this machine that share its directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesocosm.images.disk import ImageRecord, StoreDirectory, check
from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image
from mesocosm.images.progress import Progress
from mesocosm.images.settings import ImageSettings
from mesocosm.images.sharing import Shared
from mesocosm.images.sources.selection import Found, Sources

if TYPE_CHECKING:
    from mesocosm.images.pull import Puller

_ATTEMPTS = 4
"""How often an image is looked for that was removed right after it had been pulled."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `ImageStore.prune` removed."""

    images: tuple[str, ...]
    """References."""
    layers: int
    size: int
    """Bytes of their files."""


class ImageStore:
    """The images in `directory`. Several processes may use one at once; all that is in it belongs to root alone.

    Raises FlagError for `settings` that make no sense. Everything else does, too, for a directory that others can write
    to, and StoreError for a user who is not root.
    """

    def __init__(self, directory: Path, settings: ImageSettings | None = None) -> None:
        self._directory = directory
        self._sources = Sources(settings or ImageSettings())
        self._pulls: Shared[tuple[Found, str], None] = Shared()
        self._opening = asyncio.Lock()
        self._disk: StoreDirectory | None = None
        self._puller: Puller | None = None
        self.on_pulled: Callable[[float], None] = _ignore
        """Called with the seconds that a pull took, whatever came of it."""

    def check(self) -> None:
        """Makes the directory. Raises FlagError if others can write to it, StoreError for others than root, OSError."""
        check(self._directory)

    async def get(
        self,
        reference: str,
        *,
        cached: bool = True,
        docker_config: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """The image called `reference`, from disk, or pulled if it is not there or not `cached`. Raises ImageError.

        `docker_config` has credentials for this pull alone, and goes before that of the settings. An image that is on
        disk is for everybody. The same image asked for several times at once is pulled once, and the same layer
        downloaded once. Its layers are not removed as long as this process has not called `release` or `close`.
        """
        try:
            return await self._get(reference, docker_config, progress or Progress(), cached=cached)
        except ImageError as error:
            # What is wrong with a name begins with it.
            prefix = "" if error.message.startswith(repr(reference)) else f"{reference}: "
            raise ImageError(f"{prefix}{error.message}", error.hint) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise ImageError(f"{reference}: {where}{error.strerror}") from error

    async def release(self, image: Image) -> None:
        """Lets the layers of `image` be removed again: once for each `get`."""
        if self._disk is None:
            return
        layers = [_name(layer) for layer in image.layers]
        try:
            self._disk.release(layers, wait=False)
        except BlockingIOError:
            await asyncio.to_thread(self._disk.release, layers)

    async def register(self, provisioner: Path) -> None:
        """Has `prune`, also that of other processes, leave what the containers in that directory use. Raises OSError.

        That is so until the directory is gone, whether or not a process uses it.
        """
        disk = await self._opened()
        await asyncio.to_thread(disk.register, provisioner)

    async def images(self) -> list[Image]:
        """All images that are whole, by reference. Raises OSError."""
        disk = await self._opened()
        records = await asyncio.to_thread(disk.images)
        return [_image(disk, record) for record in sorted(records, key=lambda record: record.reference)]

    async def prune(self, excluded: Collection[str], in_use: Collection[Path]) -> Pruned:
        """Removes the images but those `excluded`, by name, and all layers that no image is left for. Raises OSError.

        Layers `in_use`, or that any process has got and not released, stay, as does an image of which all layers do.
        """
        disk = await self._opened()
        names = {str(self._sources.find(name).name) for name in excluded}
        images, layers = await asyncio.to_thread(disk.prune, names, in_use)
        return Pruned(
            tuple(sorted(record.reference for record in images)), len(layers), sum(layer.size for layer in layers)
        )

    async def close(self) -> None:
        """Ends what is being pulled, and lets go of the directory."""
        await self._pulls.close()
        if self._puller is not None:
            puller, self._puller = self._puller, None
            await puller.close()
        if self._disk is not None:
            disk, self._disk = self._disk, None
            await asyncio.to_thread(disk.close)
        await self._sources.close()

    async def _get(
        self, reference: str, config: Mapping[str, Any] | None, progress: Progress, *, cached: bool
    ) -> Image:
        disk = await self._opened()
        found = self._sources.find(reference)
        key = (found, json.dumps(config, sort_keys=True))
        for attempt in range(_ATTEMPTS):
            if cached or attempt:
                record = await _find(disk, found)
                if record is not None:
                    return _image(disk, record)
            await self._pulls.run(key, lambda: self._pull(disk, found, config, progress))
        raise ImageError("it is removed each time that it has been pulled", "is something pruning images all the time?")

    async def _pull(
        self,
        disk: StoreDirectory,
        found: Found,
        config: Mapping[str, Any] | None,
        progress: Progress,
    ) -> None:
        # Imported here: it takes longer than the launch of a container whose image is on disk.
        from mesocosm.images.pull import Puller

        self._puller = puller = self._puller or Puller(disk)
        source = self._sources.open(found, config, disk.partial, progress)
        began = time.monotonic()
        try:
            await puller.pull(source, str(found.name), found.place, progress)
        finally:
            await source.close()
            self.on_pulled(time.monotonic() - began)

    async def _opened(self) -> StoreDirectory:
        async with self._opening:
            if self._disk is None:
                opening = asyncio.ensure_future(asyncio.to_thread(StoreDirectory, self._directory))
                try:
                    self._disk = await asyncio.shield(opening)
                except asyncio.CancelledError:
                    await asyncio.wait([opening])
                    if opening.exception() is None:
                        self._disk = opening.result()  # Whose session `close` ends.
                    raise
            return self._disk


async def _find(disk: StoreDirectory, found: Found) -> ImageRecord | None:
    """The image, if it is on disk, with a hold on its layers: at once, unless others change something there."""
    with contextlib.suppress(BlockingIOError):
        return disk.find(str(found.name), found.place, wait=False)
    finding = asyncio.ensure_future(asyncio.to_thread(disk.find, str(found.name), found.place))
    try:
        return await asyncio.shield(finding)
    except asyncio.CancelledError:
        if (record := await finding) is not None:
            await asyncio.to_thread(disk.release, record.layers)
        raise


def _ignore(_: float) -> None:
    """Nobody wants to know."""


def _image(disk: StoreDirectory, record: ImageRecord) -> Image:
    layers = tuple(disk.layer(name) for name in record.layers)
    return Image(record.reference, record.digest, record.config, layers, record.size)


def _name(layer: Path) -> str:
    return layer.parent.name
