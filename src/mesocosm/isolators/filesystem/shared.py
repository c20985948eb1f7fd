"""The isolator `filesystem/shared`: containers share the host's file system, but for directories of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, Volume, VolumeKind, VolumeMode
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, ReceiveMounts
from mesocosm.linux import capabilities
from mesocosm.linux.mount import Propagation
from mesocosm.linux.namespaces import Namespace, supported
from mesocosm.linux.path import Permissions

_ELSE = "use filesystem/linux"


class SharedFilesystemIsolator(Isolator):
    """Covers directories of the host with others, in a mount namespace of the container.

    Without another root there is nothing else to see than what the host has, so each place must exist there. Sources:
    mount_namespaces(7), and the Mesos page on the containerizer.
    """

    phase = Phase.FILESYSTEM
    requires_launcher = "linux"

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where there is no right to mount."""
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError("mounting takes root with CAP_SYS_ADMIN", "run as root, or use filesystem/posix")
        if not supported(Namespace.MOUNT):
            raise UnsupportedError("this system has no mount namespaces", "use filesystem/posix")
        return cls()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The mount namespace, and what is mounted in it."""
        if config.rootfs is not None or config.tmpfs or config.persistent_volumes:
            raise ContainerError(
                f"{container_id} asks for a root filesystem, a tmpfs or a persistent volume", f"{_ELSE} instead"
            )
        if config.debug:
            if config.volumes:
                raise ContainerError(f"the debug container {container_id} can have no volume")
            return LaunchInfo(enter_namespaces=Namespace.MOUNT)
        volumes = await asyncio.to_thread(_binds, container_id, config)
        return LaunchInfo(clone_namespaces=Namespace.MOUNT, operations=(ReceiveMounts(),), volumes=volumes)


def _binds(container_id: ContainerID, config: ContainerConfig) -> tuple[Bind, ...]:
    assert config.directory is not None
    taken = {config.directory.resolve(): "the sandbox"}
    binds = []
    for volume in config.volumes:
        place = _place(container_id, volume)
        for other, what in taken.items():
            if place.is_relative_to(other) or other.is_relative_to(place):
                raise ContainerError(
                    f"{container_id}: the volume {volume.container_path} and {what} are one in the other",
                    "keep them apart",
                )
        taken[place] = f"the volume {volume.container_path}"
        binds.append(_bind(container_id, config, volume))
    return tuple(binds)


def _place(container_id: ContainerID, volume: Volume) -> Path:
    """Where the volume goes, without links. Raises ContainerError where it can go nowhere."""
    path = Path(volume.container_path)
    mounting.refuse_parents(container_id, "container path", volume.container_path)
    if not path.is_absolute() or not path.exists():
        raise ContainerError(
            f"{container_id}: the container path {path} does not exist on the host",
            "filesystem/shared can only cover what is there",
        )
    if volume.kind not in (VolumeKind.HOST_PATH, VolumeKind.SANDBOX_PATH) or volume.host_path is None:
        raise ContainerError(f"{container_id}: the volume {path} has no host_path", _ELSE)
    return path.resolve()


def _bind(container_id: ContainerID, config: ContainerConfig, volume: Volume) -> Bind:
    """A path of the host, or else a directory of the sandbox, which is like the one that it covers."""
    read_only = volume.mode is VolumeMode.RO
    host_path = volume.host_path
    assert host_path is not None
    if not host_path.startswith("/"):
        mounting.refuse_parents(container_id, "path in the sandbox", host_path)
        covered = Path(volume.container_path).stat()
        return Bind(
            source=host_path,
            target=volume.container_path,
            read_only=read_only,
            within=mounting.sandbox(container_id, config.directory),
            permissions=Permissions(covered.st_mode & 0o7777, covered.st_uid, covered.st_gid),
        )
    if not Path(host_path).exists():
        raise ContainerError(
            f"{container_id}: the source {host_path} of the volume {volume.container_path} does not exist"
        )
    return Bind(host_path, volume.container_path, read_only=read_only, propagation=Propagation.SLAVE)
