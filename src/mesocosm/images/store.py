"""The store: images on disk, each layer once, for all processes of this machine that share its directory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image
from mesocosm.images.settings import ImageSettings


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `ImageStore.prune` removed."""

    images: tuple[str, ...]
    """References."""
    layers: int
    size: int
    """Bytes of disk."""


class ImageStore:
    """The images in `directory`. Several processes may use one at once; all that is in it belongs to root alone."""

    def __init__(self, directory: Path, settings: ImageSettings | None = None) -> None:
        self._directory = directory
        self._settings = settings or ImageSettings()

    async def get(
        self, reference: str, *, cached: bool = True, docker_config: Mapping[str, Any] | None = None
    ) -> Image:
        """The image called `reference`, from disk, or pulled if it is not there or not `cached`. Raises ImageError.

        `docker_config` has credentials for this pull alone, and goes before that of the settings.

        The same image asked for several times at once is pulled once, and the same layer downloaded once. Its layers
        are not removed by another process as long as this one has not called `release` or `close`.
        """
        raise ImageError(f"{reference}: images cannot be pulled yet")

    async def release(self, image: Image) -> None:
        """Lets other processes remove the layers of `image` again: once for each `get`."""

    async def images(self) -> list[Image]:
        """All images that are whole, by reference."""
        return []

    async def prune(self, excluded: Collection[str], in_use: Collection[Path]) -> Pruned:
        """Removes the images but those `excluded`, by reference, and all layers that no image is left for.

        Layers `in_use`, or that another process has, stay, as does an image of which all layers do.
        """
        return Pruned((), 0, 0)

    async def close(self) -> None:
        """Ends what is being pulled, and lets go of the directory."""
