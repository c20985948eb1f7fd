"""What the isolators of disk space have in common: the directories of a container, and what they may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    DiskStatistics,
    Limitation,
    PersistentVolume,
    Resources,
    ResourceStatistics,
    persistent_volume_path,
)
from mesocosm.isolators.base import Isolator
from mesocosm.units import format_size


@dataclass(slots=True)
class Directory:
    """The sandbox or, if it is one, a persistent volume; `limit` and `used` are bytes, None where there is no such."""

    path: Path
    limit: int | None
    volume: PersistentVolume | None = None
    used: int | None = None

    @property
    def exceeds(self) -> bool:
        """Whether more is used than may be."""
        return self.limit is not None and self.used is not None and self.used > self.limit

    @property
    def limitation(self) -> Limitation:
        """That it exceeds."""
        assert self.used is not None
        assert self.limit is not None
        what = "" if self.volume is None else f" for volume '{self.volume.id}'"
        text = f"Disk usage ({format_size(self.used)}) exceeds quota ({format_size(self.limit)}){what} in '{self.path}'"
        return Limitation("REASON_CONTAINER_LIMITATION_DISK", text, "disk", amount=self.used)

    @property
    def statistics(self) -> DiskStatistics:
        """What of it goes into the statistics of the container."""
        volume = self.volume
        if volume is None:
            return DiskStatistics(limit_bytes=self.limit, used_bytes=self.used)
        return DiskStatistics(volume.id, volume.principal, self.limit, self.used)


@dataclass(slots=True)
class Space:
    """The directories of one container, and the limit that it runs into. Of a nested one there is no sandbox here."""

    directories: list[Directory]
    limitation: asyncio.Future[Limitation] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def sandbox(self) -> Directory | None:
        """Its sandbox, if that is not in the one of a parent, where it counts."""
        return next((directory for directory in self.directories if directory.volume is None), None)

    def end(self, limitation: Limitation) -> None:
        """Has the container end."""
        if not self.limitation.done():
            self.limitation.set_result(limitation)


class DiskIsolator(Isolator):
    """Knows the space of every container that has any of its own."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._spaces: dict[ContainerID, Space] = {}

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Resolves when more is used than may be, if that ends the container."""
        space = self._spaces.get(container_id)
        return None if space is None else space.limitation

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes what the sandbox may hold."""
        space = self._spaces.get(container_id)
        if space is not None and space.sandbox is not None:
            space.sandbox.limit = resources.disk

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What was measured last."""
        space = self._spaces.get(container_id)
        if space is None:
            return ResourceStatistics()
        sandbox = space.sandbox
        return ResourceStatistics(
            disk_limit_bytes=None if sandbox is None else sandbox.limit,
            disk_used_bytes=None if sandbox is None else sandbox.used,
            disk_statistics=tuple(directory.statistics for directory in space.directories),
        )

    def _add(self, container_id: ContainerID, config: ContainerConfig) -> Space | None:
        """Takes up a container; None for one that has no space of its own."""
        directories = list(self._directories(container_id, config))
        if not directories:
            return None
        space = self._spaces[container_id] = Space(directories)
        return space

    def _directories(self, container_id: ContainerID, config: ContainerConfig) -> Iterator[Directory]:
        for volume in config.persistent_volumes:
            yield Directory(persistent_volume_path(self._work_dir, volume), volume.size, volume)
        if container_id.parent is None:
            assert config.directory is not None
            yield Directory(config.directory, config.resources.disk)
