"""Which isolators to use where nobody says: the strongest isolation that this host allows."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mesocosm.container import Resources
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.selection import find, names
from mesocosm.launcher.selection import launcher_name

_POSIX = ("posix/cpu", "posix/mem")
_LINUX = ("filesystem/linux", "namespaces/pid", "namespaces/ipc")
# The others only account, or wait for an operator to write something.
_CGROUPS = ("cgroups/cpu", "cgroups/mem", "cgroups/pids")
_DISK = "disk/du"
_LIMITED_BY = {
    "cpus": ("cgroups/cpu",),
    "mem": ("cgroups/mem",),
    "pids": ("cgroups/pids",),
    "disk": (_DISK, "disk/xfs"),
}

PIDS = 4096
"""How many tasks a container may have if nobody says: enough for any honest program, too few for a fork bomb."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The isolators for `--isolation`, the launcher that they need, and why others are `missing`."""

    isolation: tuple[str, ...]
    launcher: str
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def isolates(self) -> bool:
        """Whether there is any isolation."""
        return any(not name.startswith(("posix/", "filesystem/posix", "disk/")) for name in self.isolation)

    def check(self, asked: Resources) -> None:
        """Raises FlagError if one of the amounts that were asked for would not be a limit."""
        for resource, isolators in _LIMITED_BY.items():
            if getattr(asked, resource) is not None and not set(isolators) & set(self.isolation):
                why = self.missing.get(isolators[0], "add it to --isolation")
                raise FlagError(f"--{resource} needs the isolator {isolators[0]}, which is not in use here", why)

    def default_pids(self) -> int | None:
        """The limit of tasks where none is asked for."""
        return PIDS if set(_LIMITED_BY["pids"]) & set(self.isolation) else None


def choose(isolation: str | None = None, *, disk: bool = False) -> Choice:
    """What `isolation` says, or else the strongest that works. Raises FlagError for a list that makes no sense.

    If no `disk` space is to be limited, none is measured unless the list says so.
    """
    if isolation is None and disk:
        choice = choose()
        return replace(choice, isolation=(*choice.isolation, _DISK))
    flags = Flags()
    launcher = launcher_name(flags)
    if isolation is not None:
        return Choice(tuple(names(Flags(isolation=isolation), launcher)), launcher)
    if launcher == "posix":
        reason = "it takes root on Linux"
        return Choice(_POSIX, launcher, dict.fromkeys(strongest(), reason))
    return _choose_working(flags)


def strongest() -> tuple[str, ...]:
    """The isolators that a container gets where all of them work."""
    return (*_LINUX, *_CGROUPS)


def _choose_working(flags: Flags) -> Choice:
    from mesocosm.launcher.client import LauncherProcess
    from mesocosm.launcher.selection import create_launcher

    try:
        create_launcher(flags, LauncherProcess())
    except FlagError as error:
        return Choice(_POSIX, "posix", dict.fromkeys(strongest(), str(error)))
    missing: dict[str, str] = {}
    for name in strongest():
        if (why := refusal(name, flags, missing)) is not None:
            missing[name] = why
    return Choice(tuple(name for name in strongest() if name not in missing), "linux", missing)


def refusal(name: str, flags: Flags, missing: Mapping[str, str] = {}) -> str | None:
    """Why the isolator `name` does not work here, None if it does; `missing` are those that do not."""
    kind = find(name)
    for needed in kind.requires:
        if needed in missing:
            return f"it needs {needed}"
    if kind.requires_launcher not in (None, launcher_name(flags)):
        return "it takes root on Linux" if os.geteuid() != 0 or sys.platform != "linux" else "it needs --launcher=linux"
    try:
        kind.create(flags)
    except (UnsupportedError, FlagError) as error:
        return str(error)
    return None
