"""The isolator `volume/host_path`: files and directories of the host that a container sees."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, MountPropagation, Volume, VolumeKind, VolumeMode
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, HostDirectory, Operation, TakeShared
from mesocosm.linux import mount
from mesocosm.linux.mount import Propagation
from mesocosm.linux.path import Permissions
from mesocosm.users import resolve


class HostPathVolumeIsolator(Isolator):
    """Binds what is at a path of the host, with all that is mounted below it.

    Sources: the Mesos page on volumes, and mount_namespaces(7) for what travels.
    """

    phase = Phase.VOLUMES
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._sandbox_directory = flags.sandbox_directory
        self._creatable = _directories(flags.host_path_volume_force_creation)

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works where `filesystem/linux` does. Refuses directories of `--host_path_volume_force_creation` without /."""
        return cls(flags)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The volumes of paths on the host."""
        volumes = [volume for volume in config.volumes if volume.kind is VolumeKind.HOST_PATH]
        if not volumes:
            return None
        return await asyncio.to_thread(self._prepare, container_id, config, volumes)

    def _prepare(self, container_id: ContainerID, config: ContainerConfig, volumes: list[Volume]) -> LaunchInfo:
        first: list[Operation] = []
        binds: list[Operation] = []
        for volume in volumes:
            assert volume.host_path is not None
            binds.append(self._bind(container_id, config, volume, volume.host_path))
            if volume.propagation is MountPropagation.BIDIRECTIONAL:
                _refuse_private(container_id, volume.host_path)
                first.append(TakeShared(volume.host_path))
        return LaunchInfo(first=tuple(first), volumes=tuple(binds))

    def _bind(self, container_id: ContainerID, config: ContainerConfig, volume: Volume, host_path: str) -> Bind:
        target = mounting.target(container_id, volume.container_path, config, self._sandbox_directory)
        read_only, propagation = volume.mode is VolumeMode.RO, _PROPAGATION[volume.propagation]
        if Path(host_path).exists():
            return Bind(source=host_path, read_only=read_only, propagation=propagation, **target)
        within, source = self._creatable_place(container_id, volume, host_path)
        if volume.propagation is MountPropagation.BIDIRECTIONAL:
            raise ContainerError(f"{container_id}: mounts cannot travel from {host_path}, which is only to be made")
        return Bind(
            source=source,
            read_only=read_only,
            propagation=propagation,
            within=within,
            permissions=_permissions(config),
            **target,
        )

    def _creatable_place(self, container_id: ContainerID, volume: Volume, host_path: str) -> tuple[HostDirectory, str]:
        """Where a missing source may be made: the directory that it must not leave, and its path in there."""
        path = Path(os.path.normpath(host_path))
        for directory in self._creatable:
            if path.is_relative_to(directory):
                directory.mkdir(parents=True, exist_ok=True)
                return HostDirectory(str(directory)), str(path.relative_to(directory))
        raise ContainerError(
            f"{container_id}: the source {host_path} of the volume {volume.container_path} does not exist",
            "name a directory above it in --host_path_volume_force_creation to have it made"
            if self._creatable
            else None,
        )


def _directories(text: str | None) -> tuple[Path, ...]:
    """Those of the flag. Raises FlagError."""
    directories = tuple(Path(os.path.normpath(part)) for part in (text or "").split(":") if part)
    for directory in directories:
        if not directory.is_absolute():
            raise FlagError(f"--host_path_volume_force_creation: {directory} is no absolute path", "begin it with /")
    return directories


def _permissions(config: ContainerConfig) -> Permissions:
    """Whose is what is made: the container's user's, as nobody else has a use for it."""
    user = resolve(config.user or "0", config.root_layers)
    return Permissions(_CREATED_MODE, user.uid, user.gid)


def _refuse_private(container_id: ContainerID, host_path: str) -> None:
    """What is mounted by a container reaches the host only where that has a shared mount."""
    if not mount.is_shared(host_path):
        raise ContainerError(
            f"{container_id}: mounts cannot travel in both directions at {host_path}, which is on no shared mount",
            "`mount --make-shared` makes one of a mount",
        )


_CREATED_MODE = 0o755
_PROPAGATION = {
    None: Propagation.PRIVATE,
    MountPropagation.HOST_TO_CONTAINER: Propagation.SLAVE,
    # As it was taken: a peer of the host's mount.
    MountPropagation.BIDIRECTIONAL: Propagation.UNCHANGED,
}
