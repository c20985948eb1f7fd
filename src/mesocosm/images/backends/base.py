"""The interface of a backend."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import ClassVar, Self

from mesocosm.container import ProvisionedImage
from mesocosm.images.image import Image


class Backend:
    """One way to make a root file system of layers. It leaves nothing but what is in the directories it is given."""

    name: ClassVar[str]
    copies: ClassVar[bool] = False
    """Whether it takes as long as the image is large."""

    @classmethod
    def create(cls, directory: Path) -> Self:
        """The backend for root file systems below `directory`, which exists. Raises UnsupportedError."""
        return cls()

    def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
        """Makes one at `rootfs`, with the directory `scratch` for what it takes besides; neither exists. It blocks.

        When `stop` is set, nobody wants it any more, and what there is of it may be returned.

        Raises ImageError for an image that this backend cannot do, and OSError.
        """
        raise NotImplementedError
