"""`disk/du`: the disk space that a container uses, measured from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
from typing import Self

from mesocosm.container import ContainerID
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.disk.base import Directory, DiskIsolator, Space
from mesocosm.linux.measuring import MeasuringProcess
from mesocosm.statistics import Limitation

logger = logging.getLogger(__name__)


class DuIsolator(DiskIsolator):
    """Measures sandboxes and persistent volumes as du(1) would, in another process, one after the other of each.

    With `--enforce_container_disk_quota` a container ends that uses more than `resources.disk`, or than the size of a
    volume. The sandbox of a nested container is part of its parent's. Source: the Mesos page on disk-du.
    """

    def __init__(self, flags: Flags) -> None:
        super().__init__(flags.work_dir)
        self._interval = flags.container_disk_watch_interval
        self._enforces = flags.enforce_container_disk_quota
        self._measuring = MeasuringProcess()
        self._tasks: dict[ContainerID, asyncio.Task[None]] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere."""
        if flags.container_disk_watch_interval <= 0:
            raise FlagError("--container_disk_watch_interval is 0", "give a duration such as 15secs")
        return cls(flags)

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Begins to measure. Resolves when more is used than may be, if that is enforced."""
        space = self._watched.get(container_id)
        if space is not None and container_id not in self._tasks:
            self._tasks[container_id] = asyncio.create_task(self._measure_again_and_again(space))
        return super().watch(container_id)

    async def limitation(self, container_id: ContainerID) -> Limitation | None:
        """Measures a last time, if it matters: a command may be faster than the interval."""
        space = self._watched.get(container_id)
        if space is None or not self._enforces or all(directory.limit is None for directory in space.directories):
            return None
        await self._stop(container_id)
        await self._measure(space)
        return space.limitation.result() if space.limitation.done() else None

    async def cleanup(self, container_id: ContainerID) -> None:
        """Ends what is being measured."""
        await self._stop(container_id)
        await super().cleanup(container_id)

    async def close(self) -> None:
        """Ends the process that measures."""
        for container_id in list(self._tasks):
            await self._stop(container_id)
        await self._measuring.close()

    async def _stop(self, container_id: ContainerID) -> None:
        task = self._tasks.pop(container_id, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _measure_again_and_again(self, space: Space) -> None:
        while True:
            await self._measure(space)
            await asyncio.sleep(self._interval)

    async def _measure(self, space: Space) -> None:
        for directory in space.directories:
            await self._measure_one(directory)
            if self._enforces and directory.exceeds:
                # Again, as what moved meanwhile may have counted twice.
                await self._measure_one(directory)
                if directory.exceeds:
                    space.end(directory.limitation)

    async def _measure_one(self, directory: Directory) -> None:
        """What cannot be measured keeps what was known of it."""
        try:
            used = await self._measuring.measure(directory.path)
            for path in itertools.chain(*list(directory.besides.values())):
                with contextlib.suppress(FileNotFoundError):  # A nested container ends.
                    used += await self._measuring.measure(path)
        except OSError as error:
            level = logging.DEBUG if error.errno == errno.ENOENT else logging.WARNING
            logger.log(level, "the disk usage of %s is not known: %s", directory.path, error)
        else:
            directory.used = used
