"""`mesocosm prune`: removes images from the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesocosm.cli.image_options import store_option, with_store
from mesocosm.units import round_size

if TYPE_CHECKING:
    from mesocosm.images.store import ImageStore, Pruned


@click.command()
@store_option
@click.option("--except", "kept", metavar="REF", multiple=True, help="An image to keep.")
def prune(*, store: Path, kept: tuple[str, ...]) -> int:
    """Remove the images that no container uses."""

    async def action(images: ImageStore) -> Pruned:
        return await images.prune(kept, ())

    removed = with_store(store, None, action)
    for reference in removed.images:
        click.echo(f"removed {reference}")
    images, layers = _counted(len(removed.images), "image"), _counted(removed.layers, "layer")
    click.echo(f"{images} and {layers} removed, {round_size(removed.size)} freed")
    return 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
