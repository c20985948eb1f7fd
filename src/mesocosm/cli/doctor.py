"""`mesocosm doctor`: which isolators work here, and what would make the others work."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path

import click

from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.all import expand
from mesocosm.isolators.selection import ENTRY_POINTS, REFUSED, built_in, find, names
from mesocosm.launcher.client import LauncherProcess
from mesocosm.launcher.selection import create_launcher, launcher_name
from mesocosm.linux import cgroup
from mesocosm.oneshot.choice import Choice, choose, refusal

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
@click.option("--refused", is_flag=True, help="Also show what Mesos has and there will not be here.")
def doctor(*, as_json: bool, refused: bool) -> int:
    """Show which isolators work here, and what would make the others work."""
    findings = examine()
    if refused:
        findings += [Finding(name, "", False, False, "; ".join(why)) for name, why in REFUSED.items()]
    host = describe_host()
    if as_json:
        click.echo(json.dumps({"host": host, "isolators": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(host, findings)
    return 0


def examine() -> list[Finding]:
    """Tries every isolator of this host: those that come with Mesocosm, and those of other packages."""
    choice = choose()
    default = names(Flags(isolation=",".join(choice.isolation)), choice.launcher)
    others = entry_points(group=ENTRY_POINTS).names
    return [_examine(name, choice, by_default=name in default) for name in sorted({*built_in(), *others})]


def _examine(name: str, choice: Choice, *, by_default: bool) -> Finding:
    flags = Flags(launcher=choice.launcher)
    try:
        what = _what(name)
        reason = _refusal_of_all(flags, choice) if name == _EVERY_CGROUP else _refusal(name, flags, choice)
    except FlagError as error:  # It cannot be loaded.
        what, reason = "", str(error)
    return Finding(name, what, reason is None, by_default, reason)


def _refusal(name: str, flags: Flags, choice: Choice) -> str | None:
    if name in choice.missing:
        return choice.missing[name]
    try:
        return refusal(name, flags, choice.missing)
    except Exception as error:  # noqa: BLE001 - that of another package shall not keep the others from being shown.
        return f"it fails here: {error!r}"


def _refusal_of_all(flags: Flags, choice: Choice) -> str | None:
    """Why the isolators that `cgroups/all` stands for do not all work."""
    meant = expand(flags)
    if not meant:
        return "there is no cgroup controller here that an isolator is for"
    return next((choice.missing[name] for name in meant if name in choice.missing), None)


def _what(name: str) -> str:
    """The first line of what an isolator's module says of itself, without its name. Raises FlagError."""
    module = sys.modules[expand.__module__ if name == _EVERY_CGROUP else find(name).__module__]
    line = (module.__doc__ or "").partition("\n")[0]
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
