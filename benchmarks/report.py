"""What the benchmarks print: one table, for people or for docs/performance.md, and the machine it was measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table


def machine() -> str:
    """The machine and the day, in one line."""
    return (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )


def show(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """Prints a table whose first column is text and whose others are numbers."""
    if markdown:
        print(_markdown(header, rows))
        return
    table = Table(caption=machine(), caption_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(header) - 1)]
    lines = (f"| {' | '.join(row)} |" for row in (header, rule, *rows))
    return "\n".join([*lines, "", f"{machine()}."])


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
