"""The isolator `volume/sandbox_path`: parts of a sandbox that a container sees elsewhere, its own or its parent's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import sys
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Self

from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    PersistentVolume,
    SandboxOf,
    SandboxPath,
    Volume,
    VolumeMode,
    persistent_volume_path,
)
from mesocosm.dataclass import dataclass
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import ContainerState, Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, HostDirectory
from mesocosm.linux.path import Permissions, make_directory
from mesocosm.volume_gids import VolumeGids


@dataclass(frozen=True, slots=True)
class _Place:
    """`path` in a directory of the host, which is that of a persistent `volume`, or a sandbox."""

    within: HostDirectory
    path: str
    volume: PersistentVolume | None = None


class SandboxPathVolumeIsolator(Isolator):
    """Shows a path of the container's own sandbox (SELF), or of that of the container it is nested in (PARENT).

    Containers that are nested in the same one share what is in its sandbox, also persistent volumes. With
    `filesystem/linux` the path is bound; without, there is a symbolic link to it in the container's sandbox. Source:
    the Mesos page on sandbox path volumes.
    """

    phase = Phase.VOLUMES

    def __init__(self, flags: Flags) -> None:
        self._binds = "filesystem/linux" in flags.isolators
        self._sandbox_directory = flags.sandbox_directory
        self._gids = VolumeGids.create(flags) if self._binds else None
        self._work_dir = flags.work_dir
        self._configs: dict[ContainerID, ContainerConfig] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where a path in a sandbox cannot be looked up without leaving that."""
        if sys.platform != "linux":
            raise UnsupportedError("it takes openat2(2) of Linux 5.6", "remove volume/sandbox_path")
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Learns again where the sandboxes are, and takes back the groups of those that are gone."""
        self._configs.update((state.container_id, state.config) for state in containers)
        if self._gids is not None:
            present = {mounting.sandbox(state.container_id, state.config.directory) for state in containers}
            await asyncio.to_thread(self._gids.release_others, present)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The volumes of paths in sandboxes. What is missing there is made, for the owner of the sandbox."""
        self._configs[container_id] = config
        binds: list[Bind] = []
        groups: list[int] = []
        for volume in config.volumes:
            if (path := volume.in_sandbox) is None:
                continue
            place = self._place(self._owner(container_id, volume, path), path.path)
            if self._binds:
                binds.append(self._bind(container_id, config, volume, place))
                if self._gids is not None and path.of is SandboxOf.PARENT and config.user is not None:
                    groups += await asyncio.to_thread(_groups, self._gids, config, place)
            else:
                _refuse_unlinkable(container_id, config, volume)
                own = mounting.sandbox(container_id, config.directory)
                await asyncio.to_thread(_link, place, own, volume.container_path)
        return LaunchInfo(volumes=tuple(binds), supplementary_groups=tuple(groups)) if binds else None

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Knows what of them the containers see that are nested in this one later."""
        self._configs[container_id] = config

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the sandbox, with which the links go, and takes back the groups of what others saw of it."""
        config = self._configs.get(container_id)
        if self._gids is not None and config is not None:
            await asyncio.to_thread(self._gids.release, mounting.sandbox(container_id, config.directory))
        self._configs.pop(container_id, None)

    def _owner(self, container_id: ContainerID, volume: Volume, path: SandboxPath) -> ContainerID:
        """In whose sandbox the path is. Raises ContainerError for a path that could be in none."""
        if PurePosixPath(path.path).is_absolute():
            raise ContainerError(f"{container_id}: the path {path.path} in a sandbox is absolute", "write it without /")
        mounting.refuse_parents(container_id, "path in a sandbox", path.path)
        if volume.propagation is not None:
            raise ContainerError(
                f"{container_id}: mounts cannot travel to or from {volume.container_path}, which is in a sandbox"
            )
        if path.of is SandboxOf.PARENT:
            if (parent := container_id.parent) is None:
                raise ContainerError(f"{container_id} asks for a path of its parent's sandbox, but is nested in none")
            return parent
        if not PurePosixPath(volume.container_path).is_absolute():
            raise ContainerError(
                f"{container_id}: the container path {volume.container_path} is in the same sandbox as the volume",
                "make a symbolic link instead",
            )
        return container_id

    def _place(self, owner: ContainerID, path: str) -> _Place:
        """Where a path of a sandbox is on the host. A persistent volume there is mounted for its container alone."""
        config = self._configs[owner]
        for volume in config.persistent_volumes:
            if PurePosixPath(path).is_relative_to(volume.container_path):
                inside = PurePosixPath(path).relative_to(volume.container_path)
                directory = persistent_volume_path(self._work_dir, volume)
                return _Place(HostDirectory(str(directory)), str(inside), volume)
        return _Place(mounting.sandbox(owner, config.directory), path)

    def _bind(self, container_id: ContainerID, config: ContainerConfig, volume: Volume, place: _Place) -> Bind:
        return Bind(
            source=place.path,
            read_only=VolumeMode.RO in (volume.mode, VolumeMode.RW if place.volume is None else place.volume.mode),
            within=place.within,
            **mounting.target(container_id, volume.container_path, config, self._sandbox_directory),
        )


def _groups(gids: VolumeGids, config: ContainerConfig, place: _Place) -> tuple[int, ...]:
    """The group by which the container's user may use it: of a persistent volume that of the whole. Raises OSError."""
    if place.volume is None:
        return gids.groups(config, place.within, place.path)
    volume = Path(place.within.directory)
    return gids.groups(config, HostDirectory(str(volume.parent)), volume.name, lasting=True)


def _refuse_unlinkable(container_id: ContainerID, config: ContainerConfig, volume: Volume) -> None:
    """What a link cannot do takes a mount."""
    if config.debug:
        raise ContainerError(f"the debug container {container_id} can have no volume")
    mounting.refuse_parents(container_id, "container path", volume.container_path)
    if PurePosixPath(volume.container_path).is_absolute() or volume.mode is VolumeMode.RO:
        raise ContainerError(
            f"{container_id}: the volume {volume.container_path} is outside of the sandbox, or read-only",
            "enable the isolator filesystem/linux, which takes root on Linux",
        )


def _link(place: _Place, own: HostDirectory, container_path: str) -> None:
    """Makes the `place` if it is missing, and a link to it in the container's `own` sandbox. Raises OSError."""
    with contextlib.ExitStack() as opened:

        def keep(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        there, here = keep(place.within.open()), keep(own.open())
        keep(make_directory(there, place.path, permissions=Permissions.like(there)))
        parent = keep(make_directory(here, posixpath.dirname(container_path)))
        name, target = posixpath.basename(container_path), posixpath.normpath(f"{place.within}/{place.path}")
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:  # Of an earlier container with that sandbox.
            if _link_target(name, parent) != target:
                raise


def _link_target(name: str, directory: int) -> str | None:
    """Where a link leads; None of what is no link, or is gone meanwhile. Raises OSError."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return None
