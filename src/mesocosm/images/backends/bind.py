"""The backend `bind`: the only layer of an image, read-only, as it is in the store."""

from __future__ import annotations

import threading
from pathlib import Path

from mesocosm.container import ProvisionedImage
from mesocosm.images.backends.base import Backend
from mesocosm.images.errors import ImageError
from mesocosm.images.image import Image


class BindBackend(Backend):
    """Takes no time and no space. Mount points, such as that of the sandbox, have to be in the image."""

    name = "bind"

    def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
        """The layer itself; nothing is made at `rootfs`."""
        if len(image.layers) != 1:
            raise ImageError(
                f"{image.reference} has {len(image.layers)} layers, and the backend bind takes one",
                "use --image_provisioner_backend=overlay or copy",
            )
        return ProvisionedImage(image.layers[0], image.config, read_only=True)
