"""An image of a registry."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesocosm.images import digests, manifest
from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.process import Blob
from mesocosm.images.manifest import INDEX_TYPES, MANIFEST_TYPES, Index, Manifest
from mesocosm.images.progress import Progress
from mesocosm.images.reference import Reference
from mesocosm.images.registry.answers import RegistryError
from mesocosm.images.registry.client import RegistryClient
from mesocosm.images.registry.download import Download
from mesocosm.images.sources.base import Description, Layer
from mesocosm.linux.lock import open_locked

_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_MOST_INDEXES = 4
_MOST_DOWNLOADS = 3
"""At a time: as Docker has it."""


class RegistrySource:
    """The image `reference`, from the first of `clients` that has it. What is half downloaded is kept in `partial`."""

    def __init__(
        self, reference: Reference, clients: Sequence[RegistryClient], partial: Path, progress: Progress
    ) -> None:
        self.place = clients[-1].host
        self._reference = reference
        self._clients = clients
        self._client = clients[-1]
        self._partial = partial
        self._progress = progress
        self._room = asyncio.Semaphore(_MOST_DOWNLOADS)

    async def describe(self) -> Description:
        """What is called so now. Raises ImageError."""
        for client in self._clients[:-1]:
            # A mirror may lack it, or be down; the registry itself is what counts.
            with contextlib.suppress(RegistryError):
                return await self._describe(client)
        return await self._describe(self._clients[-1])

    async def _describe(self, client: RegistryClient) -> Description:
        digest, content = await self._manifest(client, self._reference.target)
        for _ in range(_MOST_INDEXES):
            if isinstance(content, Manifest):
                break
            digest, content = await self._manifest(client, manifest.choose(content.manifests).digest)
        if isinstance(content, Index):
            raise ImageError(f"it has indexes in indexes, more than {_MOST_INDEXES} deep")
        if content.config.size > manifest.LARGEST:
            raise ImageError(f"its config has {content.config.size} bytes, where {manifest.LARGEST} are the most")
        data, _ = await client.read(f"blobs/{content.config.digest}", "*/*", manifest.LARGEST)
        digests.verify(data, content.config.digest, "the config of the image")
        config = manifest.parse_config(data)
        self._client = client
        layers = (
            Layer(diff_id, blob.digest, blob.size)
            for diff_id, blob in zip(config.diff_ids, content.layers, strict=False)
        )
        return Description(digest, config, tuple(layers))

    async def _manifest(self, client: RegistryClient, target: str) -> tuple[str, Manifest | Index]:
        data, media_type = await client.read(f"manifests/{target}", _ACCEPT, manifest.LARGEST)
        if "json" not in media_type and media_type != "application/octet-stream":
            raise RegistryError(f"{client.host} answers with {media_type}, and no manifest", "is it a registry?")
        if digests.is_digest(target):
            digests.verify(data, target, "the manifest")
            return target, manifest.parse(data)
        return digests.of(data), manifest.parse(data)

    @contextlib.asynccontextmanager
    async def open(self, layer: Layer) -> AsyncIterator[Blob]:
        """A layer of it, while it is downloaded. Raises ImageError, OSError.

        If what is done with it raises an ImageError, what has been downloaded is of no use. Otherwise it is kept.
        """
        size = layer.size or 0
        partial = _Partial.open(self._partial, layer.name)
        try:
            received = functools.partial(self._progress.received, layer.diff_id)
            download = Download(self._client, layer.name, size, partial.descriptor, received)
            downloading = asyncio.ensure_future(self._run(download))
            try:
                yield Blob(
                    partial.descriptor,
                    0,
                    download.available,
                    layer.name,
                    growth=download.growth(),
                    resumed=download.resumed,
                )
            finally:
                downloading.cancel()
                await asyncio.gather(downloading, return_exceptions=True)
            partial.remove()
        except RegistryError:
            raise
        except ImageError:
            partial.remove()
            raise
        finally:
            partial.close()

    async def _run(self, download: Download) -> None:
        async with self._room:
            await download.run()

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class _Partial:
    """The beginning of a blob in a file, this process's while its lock is (flock(2)). Methods raise OSError."""

    descriptor: int
    path: Path | None

    @classmethod
    def open(cls, directory: Path, digest: str) -> _Partial:
        """The file for `digest`, or one without a name if another process has that."""
        path = directory / digest.replace(":", "-")
        if (descriptor := open_locked(path, os.O_RDWR | os.O_CREAT)) is not None:
            return cls(descriptor, path)
        with tempfile.TemporaryFile(dir=directory) as file:
            return cls(os.dup(file.fileno()), None)

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self.descriptor)
