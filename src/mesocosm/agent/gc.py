"""The removal of what is no longer needed, such as sandboxes: when it is old, and sooner where the disk gets full."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from mesocosm.errors import FlagError
from mesocosm.linux.tree import open_below, remove_tree

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 3600.0
"""Seconds, before the removal of what could not be removed is tried again; the first time it is the disk's interval."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A path to remove, which is old enough `since` and may be tried from `not_before` on."""

    path: Path
    since: float
    not_before: float = 0.0
    failures: int = 0
    removing: bool = False


class GarbageCollector:
    """Removes paths in `work_dir` once they are older than `gc_delay`, one after the other.

    Every `disk_watch_interval` also those that are older than `gc_delay * (1 - gc_disk_headroom - used)`, where
    `used` is the part of the disk that is in use. All in seconds; names and defaults are those of Mesos's flags. There
    is a timer only while something is scheduled.
    """

    def __init__(
        self,
        gc_delay: float,
        gc_disk_headroom: float,
        disk_watch_interval: float,
        work_dir: Path,
        removed: Callable[[Path], Awaitable[None]] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        used: Callable[[Path], float] | None = None,
    ) -> None:
        """`removed` is called with each path that is gone. Raises FlagError.

        `clock` tells the time that paths are scheduled by, and `used` how much of a disk is in use, from 0 to 1.
        """
        if not 0 <= gc_disk_headroom <= 1:
            raise FlagError(f"--gc_disk_headroom: {gc_disk_headroom:g} is no part of a disk", "give 0 to 1")
        if disk_watch_interval <= 0:
            raise FlagError("--disk_watch_interval is 0", "give a duration such as 1mins")
        self.path_removals_succeeded = 0
        self.path_removals_failed = 0
        self._delay = gc_delay
        self._headroom = gc_disk_headroom
        self._interval = disk_watch_interval
        self._work_dir = work_dir
        self._removed = removed
        self._clock = clock
        self._used = used or used_part
        self._entries: dict[Path, _Entry] = {}
        self._changed = asyncio.Event()
        self._removing: Path | None = None
        self._idle = asyncio.Event()
        """Set when nothing is being removed, of which there is one at a time."""
        self._stopped = threading.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def path_removals_pending(self) -> int:
        """How many paths are scheduled."""
        return len(self._entries)

    def schedule(self, path: Path, since: float) -> None:
        """Has `path` removed when it is old enough, where `since` is when it began to age (seconds since the epoch).

        Now, if that is in the future: who owns a directory sets its times. One that is scheduled already is scheduled
        anew. Raises ValueError for a path that is not in the work directory.
        """
        parts = path.relative_to(self._work_dir).parts
        if not parts or ".." in parts:
            raise ValueError(f"{path} is not below {self._work_dir}")
        entry = self._entries.get(path)
        if entry is None or not entry.removing:
            self._entries[path] = _Entry(path, min(since, self._clock()))
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def unschedule(self, path: Path) -> bool:
        """Keeps `path`; False if it is not scheduled, or being removed already."""
        entry = self._entries.get(path)
        if entry is None or entry.removing:
            return False
        del self._entries[path]
        self._changed.set()
        return True

    async def await_removal(self, path: Path) -> bool:
        """Whether `path` was being removed, which has come to its end when this returns. What is new there stays."""
        if found := self._removing == path:
            await self._idle.wait()
        self.unschedule(path)  # What could not be removed now is not tried again.
        return found

    def close(self) -> None:
        """Forgets all paths. A removal that has begun stops soon, and is not waited for."""
        self._stopped.set()
        self._entries.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        """Waits for the first path to be old enough, or for the next look at the disk, as long as there are paths."""
        loop = asyncio.get_running_loop()
        watch = loop.time()
        while self._entries:
            self._changed.clear()
            age = self._delay
            if loop.time() >= watch:
                age = await self.allowed_age()
                watch = loop.time() + self._interval
            await self._remove_older(age)
            if not self._entries:
                return
            due = min(max(entry.since + self._delay, entry.not_before) for entry in self._entries.values())
            pause = min(due - self._clock(), watch - loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await self._changed.wait()

    async def allowed_age(self) -> float:
        """The age, in seconds, that paths may reach while the disk is as full as it is now."""
        try:
            used = await asyncio.to_thread(self._used, self._work_dir)
        except OSError as error:
            logger.error("how full the disk of %s is cannot be told: %s", self._work_dir, error)
            return self._delay
        return self._delay * max(0.0, 1.0 - self._headroom - used)

    async def _remove_older(self, age: float) -> None:
        """Removes what has reached that age, the oldest first."""
        now = self._clock()
        old = [entry for entry in self._entries.values() if now >= max(entry.since + age, entry.not_before)]
        for entry in sorted(old, key=lambda entry: entry.since):
            if self._entries.get(entry.path) is entry:
                await self._remove(entry)

    async def _remove(self, entry: _Entry) -> None:
        self._removing, entry.removing = entry.path, True
        self._idle.clear()
        try:
            await self._try_to_remove(entry)
        finally:
            self._removing, entry.removing = None, False
            self._idle.set()

    async def _try_to_remove(self, entry: _Entry) -> None:
        try:
            await asyncio.to_thread(self._remove_path, entry.path)
        except FileNotFoundError:
            logger.debug("%s is gone already", entry.path)
        except OSError as error:
            self._put_off(entry, error)
            return
        else:
            self.path_removals_succeeded += 1
            logger.info("removed %s", entry.path)
        del self._entries[entry.path]
        if self._removed is not None:
            try:
                await self._removed(entry.path)
            except Exception:
                logger.exception("%s is removed, but not what goes with it", entry.path)

    def _put_off(self, entry: _Entry, error: OSError) -> None:
        """What could not be removed is tried again, after pauses that double."""
        self.path_removals_failed += 1
        entry.not_before = self._clock() + min(self._interval * 2**entry.failures, _LONGEST_PAUSE)
        entry.failures += 1
        logger.warning("%s cannot be removed yet: %s", entry.path, error)

    def _remove_path(self, path: Path) -> None:
        """In a thread: removes `path`, unless it is told to stop. Raises OSError."""
        *above, name = path.relative_to(self._work_dir).parts
        with contextlib.ExitStack() as opened:
            root = os.open(self._work_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, root)
            # The sandbox of a nested container is in its parent's, which may have put links in its place.
            parent = open_below(root, above)
            opened.callback(os.close, parent)
            for _ in remove_tree(parent, name):
                if self._stopped.is_set():
                    return


def used_part(directory: Path) -> float:
    """The part of the file system of `directory` that is in use, from 0 to 1. Raises OSError."""
    usage = shutil.disk_usage(directory)
    return usage.used / usage.total if usage.total else 0.0
