"""How far a pull is, on the standard error: bars on a terminal, and plain lines for everything else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mesocosm.images.progress import Progress
from mesocosm.units import round_size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_SHOWN = 12
"""Digits of a digest, as Docker shows them."""


@contextlib.contextmanager
def shown() -> Iterator[Progress]:
    """What shows the pulls of the block, if there are any."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.close()


class _Lines(Progress):
    """A line for each thing that happens to a layer."""

    def waiting(self, layer: str) -> None:
        """Says who has begun."""
        _say(f"{_short(layer)}: another process is pulling it")

    def expect(self, layer: str, size: int | None) -> None:
        """Says that it begins."""
        _say(f"{_short(layer)}: pulling{'' if size is None else f', {round_size(size)}'}")

    def finished(self, layer: str) -> None:
        """Says that it is there."""
        _say(f"{_short(layer)}: complete")


class _Bars(Progress):
    """A bar for each layer: how much of it has come."""

    def __init__(self) -> None:
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}

    def close(self) -> None:
        """Leaves them as they are."""
        if self._bars is not None:
            self._bars.stop()

    def waiting(self, layer: str) -> None:
        self._show(layer, None)

    def expect(self, layer: str, size: int | None) -> None:
        bars = self._show(layer, size)
        bars.reset(self._tasks[layer], total=size)  # It may start once more.

    def received(self, layer: str, count: int) -> None:
        self._show(layer, None).advance(self._tasks[layer], count)

    def finished(self, layer: str) -> None:
        bars = self._show(layer, 1)
        total = next(task.total for task in bars.tasks if task.id == self._tasks[layer]) or 1
        bars.update(self._tasks[layer], total=total, completed=total)

    def _show(self, layer: str, size: int | None) -> RichProgress:
        """The bars, with one for `layer`."""
        self._bars = bars = self._bars or _start()
        if layer not in self._tasks:
            self._tasks[layer] = bars.add_task(_short(layer), total=size)
        return bars


def _start() -> RichProgress:
    # Imported here: it takes longer than the launch of a container whose image is on disk.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as RichProgress

    bars = RichProgress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=Console(stderr=True))
    bars.start()
    return bars


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_SHOWN]


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
