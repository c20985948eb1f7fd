"""What the isolators of the file system have in common."""

from __future__ import annotations

import os
from pathlib import Path

from mesocosm.container import ContainerConfig, ContainerID, PersistentVolume, persistent_volume_path
from mesocosm.errors import ContainerError


def make_persistent_volume(
    container_id: ContainerID, volume: PersistentVolume, config: ContainerConfig, work_dir: Path
) -> Path:
    """The directory of the volume, made if it is missing, and whose the sandbox is. Raises ContainerError, OSError."""
    if Path(volume.container_path).is_absolute():
        raise ContainerError(
            f"{container_id}: the path {volume.container_path} of the persistent volume {volume.id!r} is absolute",
            "give one in the sandbox",
        )
    path = persistent_volume_path(work_dir, volume)
    path.mkdir(parents=True, exist_ok=True)
    assert config.directory is not None
    if container_id.parent is None and os.geteuid() == 0:
        sandbox = config.directory.stat()
        os.chown(path, sandbox.st_uid, sandbox.st_gid)
    return path
