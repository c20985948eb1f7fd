"""`mesocosm images`: shows what is in the store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesocosm.cli.image_options import store_option, with_store
from mesocosm.units import round_size

if TYPE_CHECKING:
    from mesocosm.images.image import Image
    from mesocosm.images.store import ImageStore

_HEADER = ("image", "digest", "created", "layers", "size")
_ALIGNMENT = "<<<>>"
_SHOWN = 19
"""Characters of a digest: `sha256:` and 12 digits, as Docker shows them."""


@click.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def images(*, store: Path, as_json: bool) -> int:
    """Show the images in the store."""

    async def action(found: ImageStore) -> list[Image]:
        return await found.images()

    there = with_store(store, None, action)
    if as_json:
        click.echo(json.dumps([_described(image) for image in there], indent=2))
    else:
        _print(there)
    return 0


def _described(image: Image) -> dict[str, object]:
    config = asdict(image.config)
    return {
        "reference": image.reference,
        "digest": image.digest,
        "size": image.size,
        "layers": [str(layer) for layer in image.layers],
        "config": config | {"labels": dict(image.config.labels)},
    }


def _print(there: list[Image]) -> None:
    rows = [
        (
            image.reference,
            image.digest[:_SHOWN],
            (image.config.created or "")[: len("2000-01-01")],
            str(len(image.layers)),
            round_size(image.size),
        )
        for image in there
    ]
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    for row in (_HEADER, *rows):
        cells = [f"{cell:{align}{width}}" for cell, align, width in zip(row, _ALIGNMENT, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
