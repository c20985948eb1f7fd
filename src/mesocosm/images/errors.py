"""What goes wrong with images."""

from __future__ import annotations

from mesocosm.errors import ContainerError


class ImageError(ContainerError):
    """An image cannot be had: its name makes no sense, its source refuses it, or it is damaged or hostile."""


class StoreError(ContainerError):
    """The store of images cannot be used as it is."""
