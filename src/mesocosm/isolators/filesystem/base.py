"""What the isolators of the file system have in common."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.container import ContainerConfig, ContainerID, PersistentVolume, persistent_volume_path
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.launcher.operations import HostDirectory

if TYPE_CHECKING:
    from mesocosm.volume_gids import VolumeGids


class PersistentVolumes:
    """The persistent volumes that containers have. All methods block."""

    def __init__(self, flags: Flags) -> None:
        self._work_dir = flags.work_dir
        self._gid_range = flags.volume_gid_range
        self._used: dict[ContainerID, dict[PersistentVolume, Path]] = {}

    def recover(self, containers: Collection[ContainerState]) -> None:
        """Knows who has which, and takes back the groups of those that were removed. Raises RecoveryError, OSError."""
        for state in containers:
            volumes = state.config.persistent_volumes
            self._used[state.container_id] = {each: persistent_volume_path(self._work_dir, each) for each in volumes}
        if (gids := self._gids()) is not None:
            gids.release_removed()

    def changes(
        self, container_id: ContainerID, config: ContainerConfig
    ) -> tuple[Sequence[PersistentVolume], Sequence[PersistentVolume]]:
        """What of the volumes of `config` is new, and which there are no longer."""
        known, wanted = self._used.get(container_id, {}), config.persistent_volumes
        return [each for each in wanted if each not in known], [each for each in known if each not in wanted]

    def make(
        self, container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig
    ) -> tuple[Path, tuple[int, ...]]:
        """The directory of the volume, made if it is missing, and the groups that the container needs to use it.

        Its owner is whose the sandbox is, unless another container has it, too; or with `--volume_gid_range` it has a
        group. Raises ContainerError, OSError.
        """
        if Path(volume.container_path).is_absolute():
            raise ContainerError(
                f"{container_id}: the path {volume.container_path} of the persistent volume {volume.id!r} is absolute",
                "give one in the sandbox",
            )
        known = self._used.setdefault(container_id, {})
        if any(each.container_path == volume.container_path for each in known if each != volume):
            raise ContainerError(f"{container_id}: two persistent volumes are to be at {volume.container_path!r}")
        path = persistent_volume_path(self._work_dir, volume)
        if not volume.is_whole_disk:
            path.mkdir(parents=True, exist_ok=True)
        is_used = any(path in others.values() for user, others in self._used.items() if user != container_id)
        known[volume] = path
        if (gids := self._gids()) is not None:
            return path, gids.groups(config, HostDirectory(str(path.parent)), path.name, lasting=True)
        assert config.directory is not None
        if container_id.parent is None and os.geteuid() == 0 and not is_used:
            sandbox = config.directory.stat()
            os.chown(path, sandbox.st_uid, sandbox.st_gid)
        return path, ()

    def leave(self, container_id: ContainerID, volume: PersistentVolume) -> None:
        """Knows that the container does not have the volume any more."""
        self._used.get(container_id, {}).pop(volume, None)

    def forget(self, container_id: ContainerID) -> None:
        """Knows that the container is gone. Its volumes stay."""
        self._used.pop(container_id, None)

    def _gids(self) -> VolumeGids | None:
        if self._gid_range is None:
            return None
        from mesocosm.volume_gids import VolumeGids  # Much to load for who has none.

        return VolumeGids(self._work_dir, self._gid_range)
