"""The removal of what containers have left on disk: nobody waits for it, as a disk may take long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from mesocosm.linux.tree import remove_path

logger = logging.getLogger(__name__)

_MOST = 64
"""How many may wait to be removed before whoever puts another there waits as well."""


class Removal:
    """Removes what is put into one directory, one after the other, as soon as it is there."""

    def __init__(self, directory: Path) -> None:
        """`directory` is made when it is needed, in one that exists."""
        self.errors = 0
        """How often something could not be removed."""
        self._directory = directory
        self._waiting: list[Path] = []
        self._task: asyncio.Task[None] | None = None

    async def recover(self) -> None:
        """Begins with what an earlier process has left. Raises OSError."""
        self._begin(await asyncio.to_thread(_entries, self._directory))

    async def take(self, path: Path) -> None:
        """Has the directory `path` removed, which is gone from there when this returns. Raises OSError."""
        if len(self._waiting) >= _MOST:
            await self.finish()
        if (moved := self._move(path)) is not None:  # Which is quicker than a thread for it.
            self._begin([moved])

    async def finish(self) -> None:
        """Returns when nothing is left to be removed, but for what could not be."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _move(self, path: Path) -> Path | None:
        """Where `path` is from now on; None if it was gone."""
        place = self._directory / uuid.uuid4().hex
        with contextlib.suppress(FileExistsError):
            self._directory.mkdir()
        try:
            os.rename(path, place)  # noqa: PTH104 - of every container.
        except FileNotFoundError:
            return None
        return place

    def _begin(self, paths: Iterable[Path]) -> None:
        self._waiting += paths
        if self._waiting and self._task is None:
            self._task = asyncio.create_task(self._remove_all())

    async def _remove_all(self) -> None:
        try:
            while self._waiting:
                path = self._waiting.pop()
                try:
                    await asyncio.to_thread(remove_path, path)
                except OSError as error:
                    self.errors += 1
                    logger.error("%s cannot be removed, and is left for the next start: %s", path, error)
        finally:
            self._task = None


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []
