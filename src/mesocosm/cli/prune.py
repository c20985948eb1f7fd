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
    click.echo(f"{len(removed.images)} images and {removed.layers} layers removed, {round_size(removed.size)} freed")
    return 0
