"""Tables for people, who have a terminal of some width and perhaps no colours, and for programs that read lines."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import click

from mesocosm.cli.messages import printable
from mesocosm.dataclass import dataclass

RED, GREEN, YELLOW, CYAN, DIM = "31", "32", "33", "36", "2"
_GAP = "  "
_LEAST = 12
"""Columns that the last cell of a line needs to say anything."""


def _plain(text: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Column:
    """`align` is that of `format`. Where there is no room, what has the highest `rank` is left out first; 0 never is.

    `style` returns the colour of a cell, or nothing.
    """

    title: str
    align: str = "<"
    rank: int = 0
    style: Callable[[str], str] = _plain


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints it. On a terminal the last column is cut where the line ends; elsewhere nothing is left out."""
    for line in render(columns, rows, terminal_width(), colour=has_colours()):
        click.echo(line, color=True)


def render(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None, *, colour: bool = False
) -> list[str]:
    """The lines of a table of at most `width` columns, if it can be; None: as wide as it takes."""
    cells = [[printable(cell) for cell in row] for row in rows]
    shown = _fitting(columns, cells, width)
    titles = [columns[number].title for number in shown]
    cells = [[row[number] for number in shown] for row in cells]
    chosen = [columns[number] for number in shown]
    widths = [max(map(columns_of, column)) for column in zip(titles, *cells, strict=True)]
    if width is not None and chosen[-1].align == "<":
        widths[-1] = max(min(widths[-1], width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)), 1)
    styles = [lambda _: DIM] * len(chosen) if colour else []
    lines = [_line(titles, chosen, widths, styles)]
    styles = [column.style for column in chosen] if colour else []
    return lines + [_line(row, chosen, widths, styles) for row in cells]


def _fitting(columns: Sequence[Column], cells: list[list[str]], width: int | None) -> list[int]:
    """The numbers of the columns for which there is room."""
    shown = list(range(len(columns)))
    if width is None:
        return shown
    needs = [max(map(columns_of, each)) for each in zip([column.title for column in columns], *cells, strict=True)]
    needs[-1] = min(needs[-1], _LEAST)
    while sum(needs[number] + len(_GAP) for number in shown) - len(_GAP) > width:
        least = max(shown, key=lambda number: columns[number].rank)
        if not columns[least].rank:
            break
        shown.remove(least)
    return shown


def _line(
    row: Sequence[str], columns: Sequence[Column], widths: Sequence[int], styles: Sequence[Callable[[str], str]]
) -> str:
    cells = []
    for number, (cell, column, width) in enumerate(zip(row, columns, widths, strict=True)):
        text = cut(cell, width)
        padding = " " * (width - columns_of(text))
        if styles:
            text = styled(text, styles[number](cell))
        last = number == len(row) - 1
        cells.append(padding + text if column.align == ">" else text if last else text + padding)
    return _GAP.join(cells).rstrip()


def styled(text: str, codes: str) -> str:
    """`text` with the colour of `codes` (ECMA-48, SGR), if that is any."""
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def has_colours() -> bool:
    """Whether the standard output is a terminal with colours whose user wants them (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def has_unicode() -> bool:
    """Whether the standard output takes every character; what it does not take is escaped there."""
    return "utf" in (sys.stdout.encoding or "").lower()


def terminal_width() -> int | None:
    """That of the terminal which the standard output is; None if it is none."""
    if not sys.stdout.isatty():
        return None
    try:
        return int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(sys.stdout.fileno()).columns or None
    except ValueError:
        return None


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: two for a wide character, none for what combines with another."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """`text`, or as much of it as `width` columns have room for, with a mark that it was more."""
    if columns_of(text) <= width:
        return text
    kept, room = [], width - 1
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + ("…" if has_unicode() else "~")
