"""What `mesocosm top` shows: the text of a screen of any size, of what is known."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from mesocosm.cli.containers import Overview
from mesocosm.cli.shown import in_tree, since
from mesocosm.cli.table import Column, columns_of, cut, render
from mesocosm.cli.usage import COLUMNS, Usage, cells, machine_usage, rate_of, size_of, usages
from mesocosm.dataclass import dataclass, field, replace
from mesocosm.errors import FlagError

_HELP = "q quit  ←→ sort  r reverse  t tree  ↑↓ scroll  +- interval  space now"
_COLUMNS = (*COLUMNS, Column("age", ">", rank=8), Column("command", rank=9))
_VALUES = ("container.id", "cpu", "memory", "memory_limit", "disk", "disk_traffic", "received", "sent", "processes")
"""What the columns are sorted by, but the last two."""
_BAR = 16
_WIDE = 80
"""Columns of a terminal that has room for bars of that length."""
_GAP = "   "
_SHORTEST, _LONGEST = 0.5, 60.0
"""Seconds between two looks."""


@dataclass(slots=True)
class View:
    """What is shown, and how: sorted by the number of a column, `order`, or as a tree; from the line `offset` on."""

    interval: float
    order: int | None = None
    reversed: bool = False
    offset: int = 0
    looks: tuple[Overview | None, Overview] | None = None
    problem: str | None = None
    page: int = field(default=1)
    """How many containers there was room for."""

    def press(self, key: str) -> None:
        """Does what a key is for: a letter, or `LEFT`, `RIGHT`, `UP`, `DOWN`, `PPAGE`, `NPAGE`, `HOME`, `END`."""
        count = len(_VALUES)
        match key:
            case "LEFT":
                self.order = count - 1 if self.order is None else (self.order - 1) % count
            case "RIGHT":
                self.order = 1 if self.order is None else (self.order + 1) % count
            case "r":
                self.reversed = not self.reversed
            case "t":
                self.order = None
            case "+":
                self.interval = min(self.interval * 2, _LONGEST)
            case "-":
                self.interval = max(self.interval / 2, _SHORTEST)
            case "UP" | "DOWN" | "PPAGE" | "NPAGE" | "HOME" | "END":
                self._scroll(key)

    def _scroll(self, key: str) -> None:
        count = 0 if self.looks is None else len(self.looks[1].containers)
        step = {"UP": -1, "DOWN": 1, "PPAGE": -self.page, "NPAGE": self.page, "HOME": -count, "END": count}[key]
        self.offset = max(min(self.offset + step, count - self.page), 0)


def order_of(text: str | None) -> int | None:
    """The number of the column that a text means. Raises FlagError."""
    if text is None:
        return None
    titles = [column.title for column in COLUMNS]
    for number, title in enumerate(titles):
        if text and title.startswith(text.lower()):
            return number
    raise FlagError(f"--sort: there is no column {text!r}", f"there are {', '.join(titles)}")


def help_line(*, plain: bool = False) -> str:
    """Which keys there are."""
    return _HELP.replace("←→", "<- ->").replace("↑↓", "up down") if plain else _HELP


def header(view: View, width: int, *, plain: bool = False) -> list[str]:
    """What there is of the machine: a line, bars, and another line."""
    if view.looks is None:
        return []
    before, now = view.looks
    machine, usage = now.machine, machine_usage(before, now)
    first = (
        str(now.agent.get("hostname", "")),
        f"{sum(not container.has_ended for container in now.containers)} containers",
        f"{machine.get('processes', 0)} processes",
        f"load {' '.join(f'{each:.2f}' for each in machine.get('load', ()))}",
        f"agent up {since(now.agent.get('started'), now.time)}",
        f"every {view.interval:g} s",
    )
    cpus = machine.get("cpus") or 1
    memory, disk = (machine.get(f"{name}_total_bytes") for name in ("mem", "disk"))
    shares = (
        ("cpu", usage.cpu, cpus, f"{cpus} CPUs"),
        ("memory", machine.get("mem_used_bytes"), memory, size_of(memory)),
        ("disk", machine.get("disk_used_bytes"), disk, size_of(disk)),
    )
    length = _BAR if width >= _WIDE else _BAR // 2
    bars = [f"{name:6} {_bar(used, total, length, plain=plain)} of {text}" for name, used, total, text in shares]
    amounts = {"read": usage.read, "written": usage.written, "received": usage.received, "sent": usage.sent}
    traffic = [f"{name} {rate_of(amount)}" for name, amount in amounts.items() if amount is not None]
    return [*_lines(first, width)[:1], *_lines(bars, width), *_lines(traffic, width)[:1]]


def _bar(used: float | None, total: float | None, length: int, *, plain: bool) -> str:
    share = min(used / total, 1.0) if used is not None and total else None
    filled = round((share or 0.0) * length)
    full, empty = ("#", "-") if plain else ("█", "░")
    return f"{full * filled}{empty * (length - filled)} {'' if share is None else f'{share:.0%}':>4}"


def _lines(parts: Iterable[str], width: int) -> list[str]:
    """The parts in lines of that width, as many in each as there is room for."""
    lines: list[str] = []
    for part in parts:
        if lines and columns_of(lines[-1]) + len(_GAP) + columns_of(part) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(cut(part, width))
    return lines


def table(view: View, width: int, *, plain: bool = False) -> list[str]:
    """The titles, and a line for each container."""
    if view.looks is None:
        return []
    found = usages(*view.looks)
    now = view.looks[1].time
    rows = [
        (*cells(usage, name), since(usage.container.launched, now), usage.container.command)
        for name, usage in (_tree(found) if view.order is None else _sorted(found, view.order, view.reversed))
    ]
    columns = list(_COLUMNS)
    if view.order is not None:
        mark = ("^" if view.reversed else "v") if plain else ("▴" if view.reversed else "▾")
        # Where there is little room, this is what somebody wants to see.
        columns[view.order] = replace(columns[view.order], title=columns[view.order].title + mark, rank=0)
    return render(columns, rows, width)


def _tree(found: list[Usage]) -> list[tuple[str, Usage]]:
    by_id = {usage.container.id: usage for usage in found}
    nested = in_tree(usage.container for usage in found)
    return [(f"{branch}{container.name}", by_id[container.id]) for branch, container in nested]


def _sorted(found: list[Usage], order: int, upwards: bool) -> list[tuple[str, Usage]]:
    """The greatest amounts first, or the least if `upwards`; names the other way. What nobody measures is last."""
    value = attrgetter(_VALUES[order])
    known = [usage for usage in found if value(usage) is not None]
    known.sort(key=lambda usage: usage.container.id)
    known.sort(key=value, reverse=upwards == (order == 0))
    return [(usage.container.id, usage) for usage in (*known, *(each for each in found if value(each) is None))]
