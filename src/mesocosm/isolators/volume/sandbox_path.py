"""The isolator `volume/sandbox_path`: parts of a sandbox that a container sees elsewhere, its own or its parent's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import sys
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, SandboxOf, SandboxPath, Volume, VolumeMode
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import ContainerState, Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, HostDirectory
from mesocosm.linux.path import Permissions, make_directory
from mesocosm.volume_gids import VolumeGids


class SandboxPathVolumeIsolator(Isolator):
    """Shows a path of the container's own sandbox (SELF), or of that of the container it is nested in (PARENT).

    Containers that are nested in the same one share what is in its sandbox. With `filesystem/linux` the path is bound;
    without, there is a symbolic link to it in the container's sandbox. Source: the Mesos page on sandbox path volumes.
    """

    phase = Phase.VOLUMES

    def __init__(self, flags: Flags) -> None:
        self._binds = mounting.enabled(flags)
        self._sandbox_directory = flags.sandbox_directory
        self._gids = VolumeGids.create(flags) if self._binds else None
        self._sandboxes: dict[ContainerID, Path | None] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where a path in a sandbox cannot be looked up without leaving that."""
        if sys.platform != "linux":
            raise UnsupportedError("it takes openat2(2) of Linux 5.6", "remove volume/sandbox_path")
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Learns again where the sandboxes are, and takes back the groups of those that are gone."""
        self._sandboxes.update((state.container_id, state.config.directory) for state in containers)
        if self._gids is not None:
            present = {mounting.sandbox(state.container_id, state.config.directory) for state in containers}
            await asyncio.to_thread(self._gids.release_others, present)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The volumes of paths in sandboxes. What is missing there is made, for the owner of the sandbox."""
        self._sandboxes[container_id] = config.directory
        binds: list[Bind] = []
        groups: list[int] = []
        for volume in config.volumes:
            if (path := volume.in_sandbox) is None:
                continue
            sandbox = self._sandbox(container_id, volume, path)
            if self._binds:
                binds.append(self._bind(container_id, config, volume, sandbox, path.path))
                if self._gids is not None and path.of is SandboxOf.PARENT and config.user is not None:
                    groups += await asyncio.to_thread(self._gids.groups, config, sandbox, path.path)
            else:
                _refuse_unlinkable(container_id, config, volume)
                own = mounting.sandbox(container_id, config.directory)
                await asyncio.to_thread(_link, sandbox, path.path, own, volume.container_path)
        return LaunchInfo(volumes=tuple(binds), supplementary_groups=tuple(groups)) if binds else None

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the sandbox, with which the links go, and takes back the groups of what others saw of it."""
        directory = self._sandboxes.get(container_id)
        if self._gids is not None and directory is not None:
            await asyncio.to_thread(self._gids.release, mounting.sandbox(container_id, directory))
        self._sandboxes.pop(container_id, None)

    def _sandbox(self, container_id: ContainerID, volume: Volume, path: SandboxPath) -> HostDirectory:
        """The sandbox that the path is in. Raises ContainerError for a path that could be in none."""
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
            return mounting.sandbox(parent, self._sandboxes.get(parent))
        if not PurePosixPath(volume.container_path).is_absolute():
            raise ContainerError(
                f"{container_id}: the container path {volume.container_path} is in the same sandbox as the volume",
                "make a symbolic link instead",
            )
        return mounting.sandbox(container_id, self._sandboxes[container_id])

    def _bind(
        self, container_id: ContainerID, config: ContainerConfig, volume: Volume, sandbox: HostDirectory, path: str
    ) -> Bind:
        return Bind(
            source=path,
            read_only=volume.mode is VolumeMode.RO,
            within=sandbox,
            **mounting.target(container_id, volume.container_path, config, self._sandbox_directory),
        )


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


def _link(sandbox: HostDirectory, path: str, own: HostDirectory, container_path: str) -> None:
    """Makes the path in the `sandbox` if it is missing, and a link to it in the container's `own`. Raises OSError."""
    with contextlib.ExitStack() as opened:

        def keep(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        there, here = keep(sandbox.open()), keep(own.open())
        keep(make_directory(there, path, permissions=Permissions.like(there)))
        parent = keep(make_directory(here, posixpath.dirname(container_path)))
        name, target = posixpath.basename(container_path), f"{sandbox}/{path}"
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:  # Of an earlier container with that sandbox.
            with contextlib.suppress(OSError):
                if os.readlink(name, dir_fd=parent) == target:
                    return
            raise
