"""Where the root file systems of containers are.

<work_dir>/provisioner/
    mountpoints/                  the lowest layer of root file systems: what is mounted on in all of them
    containers/<id>/
        layers                    the directories of the store that it uses, on disk before it does
        <n>/                      what its images are provisioned as; of an overlay, what the container changes
        <n>.work/                 what else they take: the `workdir` of an overlay
        containers/<id>/          the same for those nested in it
    removed/                      what is being removed

There are few directories, as a disk takes longer to make and to remove one than the kernel to mount all of this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mesocosm.container import RUNTIME_SEPARATOR, ContainerID
from mesocosm.errors import ContainerError, RecoveryError

_PROVISIONER = "provisioner"


def provisioner_directory(work_dir: Path) -> Path:
    """The directory of all of them."""
    return work_dir / _PROVISIONER


def container_directory(directory: Path, container_id: ContainerID) -> Path:
    """That of one container."""
    return directory / RUNTIME_SEPARATOR / container_id.join(RUNTIME_SEPARATOR)


def containers_directory(directory: Path) -> Path:
    """What those of all containers are in that are not nested."""
    return directory / RUNTIME_SEPARATOR


def mount_points_directory(directory: Path) -> Path:
    """The layer of mount points."""
    return directory / "mountpoints"


def removed_directory(directory: Path) -> Path:
    """Where what is to be removed is put."""
    return directory / "removed"


def layers_file(directory: Path, container_id: ContainerID) -> Path:
    """What says which layers a container uses."""
    return container_directory(directory, container_id) / "layers"


def read_layers(directory: Path, container_id: ContainerID) -> tuple[Path, ...]:
    """The layers that a container uses. Raises RecoveryError, OSError."""
    path = layers_file(directory, container_id)
    try:
        return tuple(map(Path, json.loads(path.read_text())["layers"]))
    except FileNotFoundError:
        return ()  # It has no image, but one nested in it has.
    except (ValueError, KeyError, TypeError) as error:
        raise RecoveryError(f"{path} is damaged: {error}", "destroy the container, and remove the file") from None


def rootfs_directory(directory: Path, container_id: ContainerID, number: int) -> Path:
    """The root file system of its image, or that of a volume."""
    return container_directory(directory, container_id) / str(number)


def scratch_directory(directory: Path, container_id: ContainerID, number: int) -> Path:
    """What that takes besides."""
    return container_directory(directory, container_id) / f"{number}.work"


def find_containers(directory: Path) -> list[ContainerID]:
    """The containers that have a directory, parents before their children. Raises RecoveryError, OSError."""
    return list(_find(directory / RUNTIME_SEPARATOR, None))


def _find(directory: Path, parent: ContainerID | None) -> Iterator[ContainerID]:
    try:
        found = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    for path in found:
        try:
            container_id = ContainerID(path.name, parent)
        except ContainerError:
            raise RecoveryError(f"{path} is not the directory of a container", "remove it") from None
        yield container_id
        yield from _find(path / RUNTIME_SEPARATOR, container_id)
