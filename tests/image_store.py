"""Images for tests of what is made of them: layers that the test writes, and a store that knows where they are."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image, ImageConfig
from mesocosm.images.paths import containers_directory, mount_points_directory, removed_directory
from mesocosm.images.store import Pruned
from mesocosm.linux.layers import OPAQUE


def layer(directory: Path, files: Mapping[str, str | None]) -> Path:
    """A layer with files of these contents; None is a whiteout, a name that ends in / an (opaque if `!/`) directory."""
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    for name, content in files.items():
        path = directory / name.rstrip("!/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            if name.endswith("!/"):
                os.setxattr(path, OPAQUE, b"y")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        else:
            path.write_text(content)
    return directory


def image(name: str, *layers: Path, **config: Any) -> Image:
    return Image(name, f"sha256:{name}", ImageConfig(**config), layers, 0)


def left(directory: Path) -> list[Path]:
    """What the directory of a provisioner has of containers, and of what was cut short, but is not being removed."""
    of_all = (containers_directory(directory), mount_points_directory(directory), removed_directory(directory))
    return sorted([*(path for path in directory.iterdir() if path not in of_all), *directory.glob("containers/*")])


class DirectoryStore:
    """What the provisioner takes of the store. Who asks for an image waits for the `gate`, if there is one."""

    def __init__(self, *images: Image) -> None:
        self.known = {image.reference: image for image in images}
        self.taken: list[str] = []
        self.asked: list[tuple[str, bool, Mapping[str, Any] | None]] = []
        self.pruned: list[tuple[set[str], set[Path]]] = []
        self.gate: asyncio.Event | None = None
        self.asked_for = asyncio.Event()

    def add(self, image: Image) -> Image:
        self.known[image.reference] = image
        return image

    async def get(
        self, reference: str, *, cached: bool = True, docker_config: Mapping[str, Any] | None = None
    ) -> Image:
        self.asked.append((reference, cached, docker_config))
        self.asked_for.set()
        if self.gate is not None:
            await self.gate.wait()
        if reference not in self.known:
            raise ImageError(f"there is no image {reference}")
        self.taken.append(reference)
        return self.known[reference]

    def check(self) -> None:
        pass

    async def register(self, provisioner: Path) -> None:
        pass

    async def release(self, image: Image) -> None:
        self.taken.remove(image.reference)

    async def prune(self, excluded: Collection[str], in_use: Collection[Path]) -> Pruned:
        self.pruned.append((set(excluded), set(in_use)))
        return Pruned((), 0, 0)

    async def close(self) -> None:
        self.taken.clear()
