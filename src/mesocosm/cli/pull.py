"""`mesocosm pull`: gets an image into the store."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesocosm.cli.image_options import registry_options, settings, store_option, with_store
from mesocosm.images.progress import Progress
from mesocosm.units import round_size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from mesocosm.images.store import ImageStore

_EPILOG = """\b
Examples:
  mesocosm pull debian:12
  mesocosm pull registry.example.com:5000/team/app@sha256:…
  mesocosm pull docker-archive:/tmp/app.tar
  mesocosm pull oci:/tmp/layout:latest
"""
_SHOWN = 12
"""Digits of a digest, as Docker shows them."""


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
        with contextlib.nullcontext(Progress()) if quiet else _shown() as progress:
            image = await images.get(reference, cached=False, progress=progress)
        click.echo(image.digest if quiet else f"{image.reference} {image.digest}")

    with_store(store, chosen, action)
    return 0


def _shown() -> AbstractContextManager[Progress]:
    return _bars() if sys.stderr.isatty() else contextlib.nullcontext(Lines())


class Lines(Progress):
    """A line for each thing that happens to a layer."""

    def expect(self, layer: str, size: int | None) -> None:
        """Says that it begins."""
        _say(f"{_short(layer)}: pulling{'' if size is None else f', {round_size(size)}'}")

    def finished(self, layer: str) -> None:
        """Says that it is there."""
        _say(f"{_short(layer)}: complete")


class _Bars(Progress):
    """A bar for each layer: how much of it has come."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def expect(self, layer: str, size: int | None) -> None:
        if layer in self._tasks:  # It starts once more.
            self._bars.reset(self._tasks[layer], total=size)
        else:
            self._tasks[layer] = self._bars.add_task(_short(layer), total=size)

    def received(self, layer: str, count: int) -> None:
        self._bars.advance(self._tasks[layer], count)

    def finished(self, layer: str) -> None:
        if layer not in self._tasks:
            self._tasks[layer] = self._bars.add_task(_short(layer), total=1)
        total = next(task.total for task in self._bars.tasks if task.id == self._tasks[layer])
        self._bars.update(self._tasks[layer], total=total or 1, completed=total or 1)


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_SHOWN]


def _say(text: str) -> None:
    click.echo(text, err=True)
