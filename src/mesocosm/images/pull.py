"""Getting an image from its source into the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from mesocosm.images import settle
from mesocosm.images.disk import ImageRecord, LayerRecord, StoreDirectory
from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.process import Extractors
from mesocosm.images.progress import Progress
from mesocosm.images.registry.answers import RegistryError
from mesocosm.images.sharing import Shared
from mesocosm.images.sources.base import Description, Layer, Source
from mesocosm.images.turn import turn


class Puller:
    """Pulls images into one store; of those that share a layer, one downloads it, and the others wait.

    The others may be of other processes, too.
    """

    def __init__(self, disk: StoreDirectory) -> None:
        self._disk = disk
        self._extractors = Extractors()
        self._layers: Shared[str, None] = Shared()

    async def pull(self, source: Source, reference: str, place: str, progress: Progress) -> None:
        """Makes the image at `source` one of the store, as `reference`. Raises ImageError, OSError."""
        described = await source.describe()
        names = [_name(layer) for layer in described.layers]
        # What a thread has begun it ends, whoever is cancelled meanwhile; only then can it be taken back.
        holding = asyncio.ensure_future(asyncio.to_thread(self._disk.hold, names))
        try:
            await asyncio.shield(holding)
            async with asyncio.TaskGroup() as group:
                for layer in {layer.diff_id: layer for layer in described.layers}.values():
                    group.create_task(self._ensure(source, layer, progress))
            await asyncio.to_thread(self._add, reference, place, described)
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error
        finally:
            await asyncio.wait([holding])
            if holding.exception() is None:
                await asyncio.shield(asyncio.to_thread(self._disk.release, names))

    async def close(self) -> None:
        """Ends the processes that unpack layers."""
        await self._layers.close()
        await self._extractors.close()

    async def _ensure(self, source: Source, layer: Layer, progress: Progress) -> None:
        """Makes a layer one of the store, if it is not."""
        mine = False
        name = _name(layer)

        async def unpack() -> None:
            nonlocal mine
            mine = True
            async with turn(self._disk.turn_of(name), lambda: progress.waiting(layer.diff_id)):
                if await asyncio.to_thread(self._disk.layer_record, name) is None:
                    await self._unpack(source, layer, progress)

        while await asyncio.to_thread(self._disk.layer_record, name) is None:
            try:
                await self._layers.run(layer.diff_id, unpack)
            except ImageError:
                if mine:  # Otherwise the source of somebody else has failed.
                    raise
        progress.finished(layer.diff_id)

    async def _unpack(self, source: Source, layer: Layer, progress: Progress) -> None:
        progress.expect(layer.diff_id, layer.size)
        staging = asyncio.ensure_future(asyncio.to_thread(self._disk.stage))
        resumed = False
        try:
            staged = await asyncio.shield(staging)
            async with source.open(layer) as blob:
                resumed = blob.resumed
                extracted = await self._extractors.extract(blob, layer.diff_id, staged / "tree")
            record = LayerRecord(layer.diff_id, extracted.size, extracted.implied, extracted.opaque)
            await asyncio.to_thread(self._disk.install, staged, _name(layer), record)
        except RegistryError:
            raise
        except ImageError:
            if not resumed:
                raise
        finally:
            await asyncio.shield(asyncio.to_thread(self._disk.discard, await staging))
        # What was there of an earlier download was damaged: a crash can do that. `_ensure` begins anew, without it.

    def _add(self, reference: str, place: str, described: Description) -> None:
        """Records the image, whose layers are here. Blocks."""
        held: list[str] = []
        try:
            layers = self._settle([_name(layer) for layer in described.layers], held)
            self._disk.add(
                ImageRecord(
                    reference=reference,
                    place=place,
                    digest=described.digest,
                    config=described.config.config,
                    layers=tuple(layers),
                    size=sum(self._record(name).size for name in layers),
                )
            )
        finally:
            for name in held:
                self._disk.release([name])

    def _settle(self, names: Sequence[str], held: list[str]) -> list[str]:
        """The layers to be used, the lowest first: see `settle`. Those of which nothing is to be seen are left out."""
        below: list[str] = []
        for name in names:
            record = self._record(name)
            below = [] if record.opaque else below
            changed = settle.differences(
                self._disk.layer(name), record.implied if below else (), [self._disk.layer(lower) for lower in below]
            )
            own = settle.name_in_context(name, below) if changed else name
            self._disk.hold([own])
            held.append(own)
            if changed and self._disk.layer_record(own) is None:
                self._copy(name, own, record, changed)
            below.append(own)
        # A layer that is there twice hides itself, and overlayfs would not have it.
        return list(dict.fromkeys(reversed(below)))[::-1]

    def _copy(self, name: str, own: str, record: LayerRecord, changed: dict[bytes, settle.Attributes]) -> None:
        staged = self._disk.stage()
        try:
            settle.copy(self._disk.layer(name), staged / "tree", changed)
            self._disk.install(staged, own, msgspec.structs.replace(record, implied=()))
        finally:
            self._disk.discard(staged)

    def _record(self, name: str) -> LayerRecord:
        if (record := self._disk.layer_record(name)) is None:
            raise ImageError(f"the layer {name} was removed while the image was pulled", "try again")
        return record


def _name(layer: Layer) -> str:
    return layer.diff_id.partition(":")[2]
