"""What the isolators of disk space have in common: the directories of a container, and what they may hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    PersistentVolume,
    Resources,
    persistent_volume_path,
)
from mesocosm.isolators.base import Watched, WatchingIsolator
from mesocosm.statistics import DiskStatistics, Limitation, ResourceStatistics
from mesocosm.units import format_size


@dataclass(slots=True)
class Directory:
    """The sandbox or, if it is one, a persistent volume; `limit` and `used` are bytes, None where there is no such.

    With a sandbox counts what is `besides`: where the container, and each that is nested in it, change their images.
    """

    path: Path
    limit: int | None
    volume: PersistentVolume | None = None
    used: int | None = None
    besides: dict[ContainerID, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def exceeds(self) -> bool:
        """Whether more is used than may be. A disk that is one volume has its limit by itself."""
        if self.limit is None or self.used is None or (self.volume is not None and self.volume.is_whole_disk):
            return False
        return self.used > self.limit

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
class Space(Watched):
    """The directories of one container. Of a nested one there is no sandbox here."""

    directories: list[Directory]

    @property
    def sandbox(self) -> Directory | None:
        """Its sandbox, if that is not in the one of a parent, where it counts."""
        return next((directory for directory in self.directories if directory.volume is None), None)


class DiskIsolator(WatchingIsolator[Space]):
    """Knows the space of every container that has any of its own."""

    def __init__(self, work_dir: Path) -> None:
        super().__init__()
        self._work_dir = work_dir

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes what the sandbox may hold."""
        space = self._watched.get(container_id)
        if space is not None and space.sandbox is not None:
            space.sandbox.limit = resources.disk

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Measures the volumes that there are now."""
        if (space := self._watched.get(container_id)) is None:
            return
        known = {directory.volume: directory for directory in space.directories}
        found = [known.get(each.volume, each) for each in self._directories(container_id, config)]
        for directory in found:
            if directory.volume not in known:
                await self.begin(container_id, directory)
        space.directories[:] = found

    async def begin(self, container_id: ContainerID, directory: Directory) -> None:
        """Before anything of the container is in a directory; for subclasses."""

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What was measured last."""
        space = self._watched.get(container_id)
        if space is None:
            return ResourceStatistics()
        sandbox = space.sandbox
        return ResourceStatistics(
            disk_limit_bytes=None if sandbox is None else sandbox.limit,
            disk_used_bytes=None if sandbox is None else sandbox.used,
            disk_statistics=tuple(directory.statistics for directory in space.directories),
        )

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the container, and what it has changed of its images."""
        await super().cleanup(container_id)
        if (sandbox := self._sandbox(container_id)) is not None:
            sandbox.besides.pop(container_id, None)

    async def take_up(self, container_id: ContainerID, config: ContainerConfig) -> Space | None:
        """Nothing of a container that has no space of its own; what it changes of its images counts with others."""
        space = Space(list(self._directories(container_id, config)))
        sandbox = space.sandbox or self._sandbox(container_id)
        if sandbox is not None and (changes := _changes(config)):
            sandbox.besides[container_id] = changes
        return space if space.directories else None

    def _sandbox(self, container_id: ContainerID) -> Directory | None:
        """The sandbox of a known container, or that of the outermost one around it, where it counts."""
        space = self._watched.get(container_id.root)
        return None if space is None else space.sandbox

    def _directories(self, container_id: ContainerID, config: ContainerConfig) -> Iterator[Directory]:
        for volume in config.persistent_volumes:
            yield Directory(persistent_volume_path(self._work_dir, volume), volume.size, volume)
        if container_id.parent is None:
            assert config.directory is not None
            yield Directory(config.directory, config.resources.disk)


def _changes(config: ContainerConfig) -> tuple[Path, ...]:
    """Where overlayfs puts what the container changes of its images, until it ends."""
    provisioned = (config.provisioned, *(volume.provisioned for volume in config.image_volumes))
    overlays = [each.overlay for each in provisioned if each is not None and each.overlay is not None]
    return tuple(path for overlay in overlays for path in (overlay.upper, overlay.work))
