"""What the isolators of the file system have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.container import ContainerConfig, ContainerID, PersistentVolume, persistent_volume_path
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.launcher.operations import HostDirectory

if TYPE_CHECKING:
    from mesocosm.volume_gids import VolumeGids


def make_persistent_volume(
    container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig, flags: Flags
) -> tuple[Path, tuple[int, ...]]:
    """The directory of the volume, made if it is missing, and the groups that the container needs to use it.

    Its owner is whose the sandbox is, or with `--volume_gid_range` it has a group. Raises ContainerError, OSError.
    """
    if Path(volume.container_path).is_absolute():
        raise ContainerError(
            f"{container_id}: the path {volume.container_path} of the persistent volume {volume.id!r} is absolute",
            "give one in the sandbox",
        )
    path = persistent_volume_path(flags.work_dir, volume)
    path.mkdir(parents=True, exist_ok=True)
    if (gids := _gids(flags)) is not None:
        return path, gids.groups(config, HostDirectory(str(path.parent)), path.name, lasting=True)
    assert config.directory is not None
    if container_id.parent is None and os.geteuid() == 0:
        sandbox = config.directory.stat()
        os.chown(path, sandbox.st_uid, sandbox.st_gid)
    return path, ()


def release_removed_volumes(flags: Flags) -> None:
    """Takes back the groups of persistent volumes that were removed. Raises RecoveryError, OSError."""
    if (gids := _gids(flags)) is not None:
        gids.release_removed()


def _gids(flags: Flags) -> VolumeGids | None:
    if flags.volume_gid_range is None:
        return None
    from mesocosm.volume_gids import VolumeGids  # Much to load for who has none.

    return VolumeGids(flags.work_dir, flags.volume_gid_range)
