"""`disk/xfs`: the disk space that a container may use, as a project quota of XFS."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Self

from mesocosm.container import RUNTIME_SEPARATOR, ContainerConfig, ContainerID, Resources
from mesocosm.errors import ContainerError, FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.disk.base import Directory, DiskIsolator, Space
from mesocosm.isolators.disk.projects import Projects, parse_ranges
from mesocosm.linux import capabilities, xfs
from mesocosm.statistics import Limitation, ResourceStatistics

logger = logging.getLogger(__name__)

_WITH_PROJECTS = (
    f"{RUNTIME_SEPARATOR}/*",
    "slaves/*/frameworks/*/executors/*/runs/*",
    "volumes/roles/*/*",
)
"""Below the work directory: sandboxes of standalone containers and of executors, and persistent volumes."""
_REMEDY = "put --work_dir on an XFS that is mounted with `-o pquota`, or use disk/du"


class XfsIsolator(DiskIsolator):
    """Gives each sandbox and persistent volume a project, and that a quota if `--enforce_container_disk_quota` is set.

    Writes beyond it fail with ENOSPC, and the container goes on; with `--xfs_kill_containers` it ends. Sources: the
    Mesos page on disk-xfs, xfs_quota(8), quotactl(2).
    """

    requires_launcher = "linux"

    def __init__(self, flags: Flags, ranges: tuple[range, ...]) -> None:
        super().__init__(flags.work_dir)
        self._flags = flags
        self._enforces = flags.enforce_container_disk_quota
        self._kills = flags.enforce_container_disk_quota and flags.xfs_kill_containers
        self._projects = Projects(ranges)
        self._tasks: list[asyncio.Task[None]] = []
        self._descriptor = -1

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses a work directory that has no project quotas, and ranges that are none."""
        ranges = parse_ranges(flags.xfs_project_range)
        if flags.container_disk_watch_interval <= 0:
            raise FlagError("--container_disk_watch_interval is 0", "give a duration such as 15secs")
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError("quotas take root with CAP_SYS_ADMIN", "run as root, or use disk/du")
        directory = next(path for path in (flags.work_dir, *flags.work_dir.absolute().parents) if path.is_dir())
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check(directory, descriptor, enforces=flags.enforce_container_disk_quota)
        finally:
            os.close(descriptor)
        return cls(flags, ranges)

    def gauges(self) -> Mapping[str, Callable[[], float]]:
        """How many projects there are, and how many are free."""
        prefix = "containerizer/mesos/disk/project_ids"
        return {f"{prefix}_total": lambda: self._projects.total, f"{prefix}_free": lambda: self._projects.free}

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Reads the projects back from the directories, of containers that have ended, too; gives others one now."""
        self._begin()
        await asyncio.to_thread(self._read_back)
        await super().recover(containers, orphans)

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Sets the quota of the sandbox anew."""
        await super().update(container_id, resources, limits)
        for directory in self._directories_of(container_id):
            self._limit(directory)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What the kernel counts."""
        for directory in self._directories_of(container_id):
            self._read(directory)
        return await super().usage(container_id)

    async def limitation(self, container_id: ContainerID) -> Limitation | None:
        """Whether it has used more than it asked for, if that ends containers."""
        space = self._watched.get(container_id)
        if space is None or not self._kills:
            return None
        self._judge(space)
        return space.limitation.result() if space.limitation.done() else None

    async def close(self) -> None:
        """Ends what looks from time to time; projects whose directory is gone have no quota any more."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        try:
            await asyncio.wait(tasks)
            self._reclaim()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self) -> None:
        if self._tasks:
            return
        self._descriptor = os.open(self._work_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tasks.append(asyncio.create_task(self._again(self._flags.disk_watch_interval, self._reclaim)))
        if self._kills:
            self._tasks.append(asyncio.create_task(self._again(self._flags.container_disk_watch_interval, self._watch)))

    async def _again(self, interval: float, step: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                step()
            except OSError as error:
                logger.warning("the quotas of %s cannot be looked at: %s", self._work_dir, error)

    # Projects.

    async def take_up(self, container_id: ContainerID, config: ContainerConfig) -> Space | None:
        """Gives the sandbox and the volumes their projects, before anything is made in them."""
        self._begin()
        space = await super().take_up(container_id, config)
        for directory in space.directories if space is not None else ():
            await self.begin(container_id, directory)
        sandbox = (space and space.sandbox) or self._sandbox(container_id)
        if sandbox is not None and (shared := self._projects.of(sandbox.path)) is not None:
            for path in sandbox.besides.get(container_id, ()):
                if xfs.project_of(path) != shared:
                    await _assign(path, shared)
        return space

    async def begin(self, container_id: ContainerID, directory: Directory) -> None:
        """Gives it a project with its quota."""
        if not _takes_quota(container_id, directory):
            return
        directory.path.mkdir(parents=True, exist_ok=True)  # A volume, which was never used.
        if self._projects.of(directory.path) is None:
            project = self._next(container_id)
            self._projects.keep(project, directory.path)
            await _assign(directory.path, project)
        self._limit(directory)

    def _next(self, container_id: ContainerID) -> int:
        """One that is free, and has no files: another process may use the same range."""
        for project in self._projects.unused():
            if not xfs.quota(self._descriptor, project).inodes:
                return project
        raise ContainerError(
            f"{container_id}: all {self._projects.total} projects of --xfs_project_range are in use",
            "widen it, or remove old sandboxes",
        )

    def _read_back(self) -> None:
        for directory in _with_projects(self._work_dir):
            try:
                project = xfs.project_of(directory)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
                    raise
                continue  # No sandbox, but perhaps the link to the latest one.
            if project:
                self._projects.keep(project, directory)

    def _reclaim(self) -> None:
        for project in self._projects.gone():
            xfs.set_quota(self._descriptor, project, 0, 0)
            self._projects.give_back(project)
            logger.info("reclaimed project %d", project)

    # Quotas.

    def _directories_of(self, container_id: ContainerID) -> list[Directory]:
        space = self._watched.get(container_id)
        return [] if space is None else space.directories

    def _limit(self, directory: Directory) -> None:
        """Sets the quota. With accounting only, or where nothing was asked for, there is none."""
        project = self._projects.of(directory.path)
        if project is None:
            return
        limit = (directory.limit or 0) if self._enforces else 0
        headroom = self._flags.xfs_quota_headroom if self._kills and limit else 0
        xfs.set_quota(self._descriptor, project, limit, limit + headroom)

    def _read(self, directory: Directory) -> None:
        project = self._projects.of(directory.path)
        if project is not None:
            directory.used = xfs.quota(self._descriptor, project).used

    def _watch(self) -> None:
        for space in self._watched.values():
            self._judge(space)

    def _judge(self, space: Space) -> None:
        for directory in space.directories:
            self._read(directory)
            if directory.exceeds:
                space.end(directory.limitation)


def _with_projects(work_dir: Path) -> Iterator[Path]:
    """What may have a project."""
    for pattern in _WITH_PROJECTS:
        yield from work_dir.glob(pattern)


def _takes_quota(container_id: ContainerID, directory: Directory) -> bool:
    """Not a disk that is one volume. Raises ContainerError for a part of another disk than the work directory's."""
    if directory.volume is None or directory.volume.source is None:
        return True
    if not directory.volume.is_whole_disk:
        raise ContainerError(
            f"{container_id}: the persistent volume {directory.volume.id!r} is a part of another disk than that of"
            " --work_dir, which alone has quotas here",
            "use disk/du, or disks of the type MOUNT",
        )
    return False


async def _assign(directory: Path, project: int) -> None:
    """Gives a directory to a project, in a thread, as there may be much in it. Raises OSError."""
    try:
        await asyncio.to_thread(xfs.set_project, directory, project)
    except OSError as error:
        raise OSError(error.errno, f"it can have no project: {error.strerror}", str(directory)) from error


def _check(directory: Path, descriptor: int, *, enforces: bool) -> None:
    try:
        state = xfs.state(descriptor)
        if state is None:
            raise UnsupportedError(f"{directory} is not on XFS", _REMEDY)
        if not state.accounts:
            raise UnsupportedError(f"the XFS of {directory} has no project quotas", _REMEDY)
        if enforces and not state.enforces:
            xfs.enforce(descriptor)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        raise UnsupportedError("this kernel has no quotactl_fd(2)", "use Linux 5.14 or later, or disk/du") from None
