"""`mesocosm inspect`: shows all that is known of a container."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import click

from mesocosm.cli.agent_option import agent_options, json_option
from mesocosm.cli.containers import Container, Overview, choose, container_argument, overview
from mesocosm.cli.messages import printable
from mesocosm.cli.shown import outcome, since
from mesocosm.cli.table import DIM, has_colours, styled
from mesocosm.cli.usage import cpu_time, memory
from mesocosm.client import Json
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection
from mesocosm.units import round_size

_EPILOG = """\b
Examples:
  mesocosm inspect web
  mesocosm inspect --json web.side | jq .statistics
"""


@click.command(epilog=_EPILOG)
@json_option
@container_argument()
@agent_options
def inspect(agent: Address, *, container: str, as_json: bool) -> int:
    """Show all that is known of a container."""
    with Connection(agent) as connection:
        found = overview(connection, container)
    chosen = choose(found.containers, container)
    if as_json:
        click.echo(json.dumps(chosen.entry, indent=2))
        return 0
    facts = [(name, text) for name, text in _facts(chosen, found) if text]
    width = max(len(name) for name, _ in facts)
    colour = has_colours()
    for name, text in facts:
        title = name.ljust(width)
        click.echo(f"{styled(title, DIM) if colour else title}  {printable(text)}", color=True)
    return 0


def _facts(container: Container, found: Overview) -> Iterator[tuple[str, str]]:
    entry = container.entry
    yield "container", container.id
    yield "state", _state(container)
    yield "launched", _moment(container.launched, found.time)
    yield "ended", _moment(container.ended, found.time)
    for name in ("command", "image", "rootfs", "user"):
        yield name, entry.get(name) or ""
    yield "made by", "Docker" if entry.get("type") == "DOCKER" else ""
    yield "terminal", "yes" if entry.get("has_terminal") else ""
    yield "class", "debug" if entry.get("class") == "DEBUG" else ""
    yield "framework", entry.get("framework_id") or ""
    yield "executor", entry.get("executor_id") or ""
    yield "pid", str(entry.get("pid") or "")
    yield "addresses", ", ".join(entry.get("addresses", ()))
    yield "sandbox", entry.get("sandbox") or ""
    yield "isolators", ", ".join(entry.get("isolators", ()))
    yield "nested", ", ".join(each.id for each in found.containers if each.parent == container.id)
    yield from _usage(container.statistics)


def _state(container: Container) -> str:
    if not container.has_ended:
        return container.state.lower()
    return outcome(container.entry | {"exit_status": container.entry.get("status")})


def _moment(seconds: float | None, now: float) -> str:
    if seconds is None:
        return ""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}, {since(seconds, now)} ago"


def _usage(statistics: Json) -> Iterator[tuple[str, str]]:
    """What it uses and may use, as far as somebody measures that."""
    if (used := cpu_time(statistics)) is not None:
        limit = statistics.get("cpus_limit")
        yield "cpu", f"{used:.2f} s used" + (f", {limit:g} CPUs at most" if limit else "")
    for name, used, limit in (
        ("memory", memory(statistics), statistics.get("mem_limit_bytes")),
        ("disk", statistics.get("disk_used_bytes"), statistics.get("disk_limit_bytes")),
    ):
        if used is not None:
            yield name, round_size(used) + (f" of {round_size(limit)}" if limit is not None else "")
    yield "tasks", ", ".join(f"{statistics[name]} {name}" for name in ("processes", "threads") if name in statistics)
    if "net_rx_bytes" in statistics:
        received, sent = statistics["net_rx_bytes"], statistics.get("net_tx_bytes", 0)
        yield "network", f"{round_size(received)} received, {round_size(sent)} sent"
