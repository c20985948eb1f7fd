"""Where on this machine an image is that has the name of one of a registry: what `--docker_registry` may be instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mesocosm.images.errors import ImageError
from mesocosm.images.reference import DEFAULT_TAG, DOCKER_ARCHIVE, DOCKER_HUB, OCI_LAYOUT, LocalReference, Reference

_LAYOUT = "oci-layout"


def find(root: Path, reference: Reference) -> LocalReference:
    """Where `reference` is in `root`: an archive, an OCI layout, or a directory of these. Raises ImageError.

    In a directory, an archive is called NAME:TAG.tar or NAME.tar, and a layout NAME:TAG or NAME.
    """
    name = f"{_names(reference)[0]}:{reference.tag or DEFAULT_TAG}"
    if root.is_file():
        return LocalReference(DOCKER_ARCHIVE, root, name)
    if (root / _LAYOUT).is_file():
        return LocalReference(OCI_LAYOUT, root, name)
    for candidate in _candidates(reference):
        archive = root / f"{candidate}.tar"
        if archive.is_file():
            return LocalReference(DOCKER_ARCHIVE, archive, name)
        if (root / candidate / _LAYOUT).is_file():
            return LocalReference(OCI_LAYOUT, root / candidate, name)
    first, *_ = _candidates(reference)
    last = _names(reference)[0]
    raise ImageError(f"{reference}: there is no {root / first}.tar, and no {root / last}.tar")


def _candidates(reference: Reference) -> Iterator[str]:
    for name in _names(reference):
        yield f"{name}:{reference.tag or DEFAULT_TAG}"
        yield name


def _names(reference: Reference) -> list[str]:
    """How one may call an image, the way that Docker does first."""
    if reference.registry != DOCKER_HUB:
        return [f"{reference.registry}/{reference.repository}", reference.repository]
    return list(dict.fromkeys((reference.repository.removeprefix("library/"), reference.repository)))
