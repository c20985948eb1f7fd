"""The backend `overlay`: a mount of overlayfs, made by the container's init where nobody else has it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Self

from mesocosm.container import Overlay, ProvisionedImage
from mesocosm.errors import UnsupportedError
from mesocosm.images.backends.base import Backend
from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image
from mesocosm.linux import mount
from mesocosm.linux.directory import has_types
from mesocosm.linux.overlay import MOST_LAYERS


class OverlayBackend(Backend):
    """Layers are shared by all containers; what a container changes is its own. There never is a mount on the host."""

    name = "overlay"

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Makes sure that the kernel has overlayfs, and that the file system of `directory` can take the changes."""
        probe = Path(tempfile.mkdtemp(prefix="probe-", dir=directory))
        try:
            _probe(probe)
        finally:
            shutil.rmtree(probe)
        return cls()

    def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
        """The empty directories that the mount takes."""
        if len(image.layers) > MOST_LAYERS:
            raise ImageError(
                f"{image.reference} has {len(image.layers)} layers, and overlayfs takes {MOST_LAYERS}",
                "use --image_provisioner_backend=copy",
            )
        for directory in (rootfs, scratch):
            os.mkdir(directory, 0o755)  # noqa: PTH102 - as all paths in here, it is made for every container.
        _copy_root(image.layers[-1], rootfs)
        # Mounted on its own upper directory, it takes no other to be mounted on.
        return ProvisionedImage(rootfs, image.config, Overlay(image.layers, upper=rootfs, work=scratch))


def _copy_root(layer: Path, upper: Path) -> None:
    """Makes the root directory what it is in the image: overlayfs takes the attributes of the uppermost one."""
    status = layer.stat()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(status.st_mode & 0o7777)


def _probe(directory: Path) -> None:
    """Mounts an overlay that is attached nowhere, and so is gone when its descriptor is closed."""
    if not has_types(directory):
        raise UnsupportedError(
            f"the file system of {directory.parent} does not tell the types of files in a directory (d_type)",
            "make it anew (mkfs.xfs -n ftype=1), or use the backend copy",
        )
    descriptors = []
    try:
        for name in ("lower", "upper", "work"):
            (directory / name).mkdir()
            descriptors.append(os.open(directory / name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        lower, upper, work = (f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
        options = (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
        os.close(mount.create("overlay", options))
    except OSError as error:
        raise UnsupportedError(
            f"overlayfs cannot be used in {directory.parent}: {error.strerror}",
            "load the kernel module `overlay`, put the directory on ext4 or XFS, or use the backend copy",
        ) from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
