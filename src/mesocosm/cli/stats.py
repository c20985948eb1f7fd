"""`mesocosm stats`: shows what containers use, once or again and again."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import fields

import click

from mesocosm.cli.agent_option import agent_options, json_option
from mesocosm.cli.containers import Overview, choose, container_argument, overview
from mesocosm.cli.shown import in_tree
from mesocosm.cli.table import has_colours, render, terminal_width
from mesocosm.cli.usage import COLUMNS, Usage, cells, usages
from mesocosm.client import Json
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection
from mesocosm.errors import FlagError
from mesocosm.units import parse_duration

_EPILOG = """\b
Examples:
  mesocosm stats
  mesocosm stats --watch web batch-1
  mesocosm stats --watch --interval 10 --json >> usage.jsonl
"""


@click.command(epilog=_EPILOG)
@click.option("-w", "--watch", is_flag=True, help="Go on until ^C.")
@click.option("-n", "--interval", metavar="DURATION", default="1", show_default=True, help="What rates are of.")
@json_option
@container_argument(lambda container: not container.has_ended, several=True, required=False)
@agent_options
def stats(agent: Address, *, ids: tuple[str, ...], watch: bool, interval: str, as_json: bool) -> int:
    """Show what containers use: all, or those with an ID and what is nested in them.

    CPU is in percent of one CPU. What nobody measures, as no isolator is in charge of it, is left empty.
    """
    seconds = parse_duration(interval)
    if seconds <= 0:
        raise FlagError(f"--interval: {interval} is no time to wait", "write seconds, such as 2")
    with Connection(agent) as connection:
        before = overview(connection)
        roots = [choose(before.containers, text).id for text in ids]
        show = _Lines() if as_json else _Table()
        while True:
            time.sleep(seconds)
            now = overview(connection)
            show(now, [usage for usage in usages(before, now) if not roots or _is_within(usage.container.id, roots)])
            before = now
            if not watch:
                return 0


def _is_within(container_id: str, roots: Iterable[str]) -> bool:
    return any(f"{container_id}.".startswith(f"{root}.") for root in roots)


def _described(usage: Usage) -> Json:
    values = {entry.name: getattr(usage, entry.name) for entry in fields(usage) if entry.name != "container"}
    return {"id": usage.container.id, **values}


class _Lines:
    """Prints a line of JSON for each look."""

    def __call__(self, now: Overview, here: list[Usage]) -> None:
        click.echo(json.dumps({"time": now.time, "containers": [_described(usage) for usage in here]}))
        sys.stdout.flush()


class _Table:
    """Prints a table for each look, on a terminal in the place of the one before."""

    def __init__(self) -> None:
        self._printed = 0

    def __call__(self, now: Overview, here: list[Usage]) -> None:
        width = terminal_width()
        of_container = {usage.container.id: usage for usage in here}
        rows = [
            cells(of_container[container.id], container.id if width is None else f"{branch}{container.name}")
            for branch, container in in_tree(usage.container for usage in here)
        ]
        self._paint(render(COLUMNS, rows, width, colour=has_colours()))

    def _paint(self, lines: list[str]) -> None:
        before = "\n" if self._printed else ""
        if sys.stdout.isatty():
            lines = lines[: os.get_terminal_size(sys.stdout.fileno()).lines - 1]
            before = f"\x1b[{self._printed}A\x1b[J" if self._printed else ""
        click.echo(before + "\n".join(lines), color=True)
        sys.stdout.flush()
        self._printed = len(lines)
