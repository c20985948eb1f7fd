"""`mesocosm ps`: shows the containers of an agent."""

from __future__ import annotations

import json

import click

from mesocosm.cli.agent_option import agent_options, json_option
from mesocosm.cli.containers import Container, Overview, overview
from mesocosm.cli.shown import in_tree, since, state_of
from mesocosm.cli.table import GREEN, RED, YELLOW, Column, print_table, terminal_width
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection
from mesocosm.units import round_size

_EPILOG = """\b
Examples:
  mesocosm ps
  mesocosm ps --all
  mesocosm ps --agent https://host:5051 --credential ~/.mesocosm
  mesocosm kill $(mesocosm ps --quiet)
  mesocosm ps --json | jq -r '.[] | select(.image) | .id'
"""


def _state_style(text: str) -> str:
    return {"running": GREEN, "exit 0": ""}.get(text, YELLOW if text.endswith("ing") else RED)


_COLUMNS = (
    Column("container"),
    Column("state", style=_state_style),
    Column("age", ">", rank=1),
    Column("memory", ">", rank=2),
    Column("user", rank=5),
    Column("address", rank=4),
    Column("executor", rank=6),
    Column("image", rank=3),
    Column("command", rank=7),
)


@click.command(epilog=_EPILOG)
@click.option("-a", "--all", "with_ended", is_flag=True, help="Also show those that have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids alone.")
@json_option
@agent_options
def ps(agent: Address, *, with_ended: bool, quiet: bool, as_json: bool) -> int:
    """Show containers, each below the one that it is nested in.

    Where the output is no terminal, ids are written in full, PARENT.CHILD, and nothing is left out.
    """
    with Connection(agent) as connection:
        found = overview(connection, measured=not quiet)
    shown = [container for container in found.containers if with_ended or not container.has_ended]
    if as_json:
        click.echo(json.dumps([container.entry for _, container in in_tree(shown)], indent=2))
    elif quiet:
        for _, container in in_tree(shown):
            click.echo(container.id)
    else:
        _print(found, shown)
    return 0


def _print(found: Overview, shown: list[Container]) -> None:
    tree = terminal_width() is not None
    rows = [
        (f"{branch}{container.name}" if tree else container.id, *_cells(container, found.time))
        for branch, container in in_tree(shown)
    ]
    # What nobody has anything of needs no column.
    used = [number for number in range(len(_COLUMNS)) if not _COLUMNS[number].rank or any(row[number] for row in rows)]
    print_table([_COLUMNS[number] for number in used], [[row[number] for number in used] for row in rows])


def _cells(container: Container, now: float) -> tuple[str, ...]:
    entry = container.entry
    memory = container.statistics.get("mem_total_bytes", container.statistics.get("mem_rss_bytes"))
    return (
        state_of(container),
        since(container.launched, now),
        "" if memory is None else round_size(memory),
        entry.get("user") or "",
        ", ".join(entry.get("addresses", ())),
        entry.get("executor_id") or "",
        entry.get("image") or "",
        container.command,
    )
