"""The interface of what images come from."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.process import Blob
from mesocosm.images.manifest import ConfigFile


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its digest when decompressed, and what the source calls it, with the size in bytes if that is known."""

    diff_id: str
    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Description:
    """An image at its source: the digest of its manifest (or config, where there is none), and what is in it."""

    digest: str
    config: ConfigFile
    layers: tuple[Layer, ...]
    """The lowest first."""

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.config.diff_ids):
            raise ImageError(
                f"the config of the image has {len(self.config.diff_ids)} layers, and the manifest {len(self.layers)}"
            )


class Source(Protocol):
    """One image at its source. Methods raise ImageError, and OSError."""

    place: str
    """Where it comes from, so that the same name of another place is another image."""

    async def describe(self) -> Description:
        """What is called so now."""

    def open(self, layer: Layer) -> AbstractAsyncContextManager[Blob]:
        """A layer of it, to be read."""

    async def close(self) -> None:
        """Lets go of all that it has opened."""
