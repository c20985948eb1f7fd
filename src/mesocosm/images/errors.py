"""What goes wrong with images."""

from __future__ import annotations

from mesocosm.errors import ContainerError

_LONGEST = 1000


class ImageError(ContainerError):
    """An image cannot be had: its name makes no sense, its source refuses it, or it is damaged or hostile."""


class StoreError(ContainerError):
    """The store of images cannot be used as it is."""


class DigestError(ImageError):
    """Something is not what its digest says."""


def shown(text: str) -> str:
    """The text in one line of no great length, without control characters: servers and archives have a part in it."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}…"
