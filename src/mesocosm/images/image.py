"""An image on this machine, as the store hands it out."""

from __future__ import annotations

from pathlib import Path

from mesocosm.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of its containers (OCI image specification, config.md). None and empty: it says nothing."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    """`NAME=VALUE`, as they stand in the image."""
    working_directory: str | None = None
    user: str | None = None
    """`USER[:GROUP]`, by names or numbers of the image's own `/etc/passwd` and `/etc/group`."""
    labels: tuple[tuple[str, str], ...] = ()
    created: str | None = None
    """RFC 3339."""
    architecture: str | None = None
    """Go's name for it, with the variant after a slash: `amd64`, `arm/v7`."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose layers are unpacked on this machine."""

    reference: str
    """Its name in full, as Docker writes it: `docker.io/library/debian:12`."""
    digest: str
    """Of its manifest; of its config for one from an archive of `docker save`, which has no manifest of a registry."""
    config: ImageConfig
    layers: tuple[Path, ...]
    """Absolute directories, the lowest first, whiteouts of overlayfs: devices 0/0 and `trusted.overlay.opaque`."""
    size: int
    """Bytes of its files on disk, those of shared layers included."""
