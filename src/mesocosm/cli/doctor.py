"""`mesocosm doctor`: which isolators work here, and what would make the others work."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.selection import built_in, find
from mesocosm.launcher.client import LauncherProcess
from mesocosm.launcher.selection import create_launcher, launcher_name
from mesocosm.linux import cgroup
from mesocosm.oneshot.choice import refusal, strongest

_EVERY_CGROUP = "cgroups/all"
_NARROW = 60
"""A terminal of fewer columns has no room for a table."""
_PIPED = 400
"""Columns where there is no terminal: a line for each isolator."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One isolator: `reason` is why it does not work here, None if it does."""

    name: str
    what: str
    works: bool
    by_default: bool
    reason: str | None

    @property
    def here(self) -> str:
        """One word for it."""
        return "default" if self.by_default else "works" if self.works else "no"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, as_json: bool) -> int:
    """Show which isolators work here, and what would make the others work."""
    findings = examine()
    host = describe_host()
    if as_json:
        click.echo(json.dumps({"host": host, "isolators": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(host, findings)
    return 0


def examine() -> list[Finding]:
    """Tries every isolator that comes with Mesocosm."""
    flags = Flags()
    reasons = {name: _refusal(name, flags) for name in built_in()}
    missing = {name: reason for name, reason in reasons.items() if reason is not None}
    for name in reasons:
        reasons[name] = reasons[name] or refusal_of_needs(name, missing)
    default = strongest() if launcher_name(flags) == "linux" else ("posix/cpu", "posix/mem", "filesystem/posix")
    return [
        Finding(name, _what(name), reason is None, reason is None and name in default, reason)
        for name, reason in reasons.items()
    ]


def _refusal(name: str, flags: Flags) -> str | None:
    return None if name == _EVERY_CGROUP else refusal(name, flags)


def refusal_of_needs(name: str, missing: dict[str, str]) -> str | None:
    """Why an isolator that works by itself does not, for lack of another."""
    if name == _EVERY_CGROUP:
        return None
    return next((f"it needs {needed}" for needed in find(name).requires if needed in missing), None)


def _what(name: str) -> str:
    """The first line of what an isolator's module says of itself, without its name."""
    module = find(name).__module__ if name != _EVERY_CGROUP else "mesocosm.isolators.cgroups.all"
    __import__(module)
    line = (sys.modules[module].__doc__ or "").partition("\n")[0]
    text = line.partition(": ")[2] or line
    return text[:1].upper() + text[1:].rstrip(".")


def describe_host() -> dict[str, str]:
    """The lines about the host."""
    root = os.geteuid() == 0
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "user": "root" if root else f"uid {os.geteuid()}, not root",
        "launcher": _launcher(),
        "cgroups": _cgroups(),
    }


def _launcher() -> str:
    flags = Flags()
    try:
        create_launcher(flags, LauncherProcess())
    except FlagError as error:
        return f"posix ({error})"
    name = launcher_name(flags)
    return name if name == "linux" else "posix, which isolates nothing (linux takes root on Linux)"


def _cgroups() -> str:
    if not Path("/proc/self/cgroup").exists():
        return "none"
    mounted = cgroup.hierarchies().mounted
    parts = []
    if legacy := sorted(name for hierarchy in mounted if hierarchy.version == 1 for name in hierarchy.controllers):
        parts.append(f"v1 with {', '.join(legacy)}")
    if unified := cgroup.hierarchies().unified:
        parts.append(f"v2 with {', '.join(sorted(unified.controllers)) or 'no controllers'}")
    return "; ".join(parts) or "none mounted"


def _print(host: dict[str, str], findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_PIPED)
    facts = Table.grid(padding=(0, 2))
    for name, value in host.items():
        facts.add_row(Text(name, "bold"), Text(value))
    console.print(facts, "")
    table = Table("isolator", "here", "what it does, or why not and what would make it work", box=None, pad_edge=False)
    for column in table.columns[:2]:
        column.no_wrap = True
    for finding in findings:
        here = Text(finding.here, "green" if finding.works else "red")
        text = Text(finding.what if finding.reason is None else finding.reason)
        if console.width < _NARROW:
            console.print(Text.assemble(finding.name, ": ", here), Padding(text, (0, 0, 0, 2)))
        else:
            table.add_row(Text(finding.name), here, text)
    if console.width >= _NARROW:
        console.print(table)
