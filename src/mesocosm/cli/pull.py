"""`mesocosm pull`: gets an image into the store."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesocosm.cli.image_options import registry_options, settings, store_option, with_store
from mesocosm.cli.progress import shown
from mesocosm.images.progress import Progress

if TYPE_CHECKING:
    from mesocosm.images.store import ImageStore

_EPILOG = """\b
Examples:
  mesocosm pull debian:12
  mesocosm pull registry.example.com:5000/team/app@sha256:…
  mesocosm pull docker-archive:/tmp/app.tar
  mesocosm pull oci:/tmp/layout:latest
"""


@click.command(epilog=_EPILOG)
@registry_options
@store_option
@click.option("-q", "--quiet", is_flag=True, help="Print the digest alone.")
@click.argument("reference", metavar="REF")
def pull(
    *,
    reference: str,
    store: Path,
    quiet: bool,
    docker_registry: str,
    docker_config: Path | None,
    mirror: tuple[str, ...],
) -> int:
    """Get an image, or what is new of it, into the store."""
    chosen = settings(docker_registry, docker_config, mirror)

    async def action(images: ImageStore) -> None:
        with contextlib.nullcontext(Progress()) if quiet else shown() as progress:
            image = await images.get(reference, cached=False, progress=progress)
        click.echo(image.digest if quiet else f"{image.reference} {image.digest}")

    with_store(store, chosen, action)
    return 0
