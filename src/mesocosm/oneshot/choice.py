"""Which isolators to use where nobody says: the strongest isolation that this host allows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from mesocosm.container import ContainerConfig, Resources
from mesocosm.dataclass import dataclass, field
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.concerns import concerns
from mesocosm.isolators.selection import find, names
from mesocosm.launcher.selection import launcher_name

_POSIX = ("posix/cpu", "posix/mem")
_LINUX = ("filesystem/linux", "namespaces/pid", "namespaces/ipc", "network/cni")
# The others only account, or wait for an operator to write something.
_CGROUPS = ("cgroups/cpu", "cgroups/mem", "cgroups/pids", "cgroups/devices")
DISK = "disk/du"
_LIMITED_BY = {
    "cpus": ("cgroups/cpu",),
    "mem": ("cgroups/mem",),
    "pids": ("cgroups/pids",),
    "disk": (DISK, "disk/xfs"),
}
_OPTIONS = {
    "network/cni": "--network, --publish, --hostname",
    "docker/runtime": "--image",
    "linux/capabilities": "--cap-add, --cap-drop",
    "linux/nnp": "--no-new-privileges",
    "linux/seccomp": "--seccomp",
    "posix/rlimits": "--rlimit",
}
_VOLUMES = ("volume/host_path", "volume/sandbox_path", "environment_secret")

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
        return any(not name.startswith(("posix/", "filesystem/posix", "disk/", "linux/")) for name in self.isolation)

    def check(self, asked: Resources) -> None:
        """Raises FlagError if one of the amounts that were asked for would not be a limit."""
        for resource, isolators in _LIMITED_BY.items():
            if getattr(asked, resource) is not None and not set(isolators) & set(self.isolation):
                why = self.missing.get(isolators[0], "add it to --isolation")
                raise FlagError(f"--{resource} needs the isolator {isolators[0]}, which is not in use here", why)

    def check_isolators(self, needed: Iterable[str]) -> None:
        """Raises FlagError if one that an option of the container takes is not in use."""
        for isolator in needed:
            if isolator not in self.isolation:
                why = self.missing.get(isolator, "add it to --isolation")
                raise FlagError(f"{_OPTIONS[isolator]}: the isolator {isolator} is not in use here", why)

    def default_pids(self) -> int | None:
        """The limit of tasks where none is asked for."""
        return PIDS if set(_LIMITED_BY["pids"]) & set(self.isolation) else None


def choose(isolation: str | None = None, more: Iterable[str] = (), sole: ContainerConfig | None = None) -> Choice:
    """What `isolation` says, or else the strongest that works, and of `more`, which options ask for, what does.

    Without `isolation`, those that have nothing to do for a `sole` container are left out. Raises FlagError for a list
    that makes no sense.
    """
    flags = Flags()
    launcher = launcher_name(flags)
    if isolation is not None:
        return Choice(tuple(names(Flags(isolation=isolation), launcher)), launcher)
    if launcher == "posix":
        reason = "it takes root on Linux"
        return _with(Choice(_POSIX, launcher, dict.fromkeys(strongest(), reason)), more, flags)
    useful = [name for name in strongest() if sole is None or concerns(name, sole)]
    return _with(_choose_working(useful, flags), more, flags)


def strongest() -> tuple[str, ...]:
    """The isolators that a container gets where all of them work, and no option asks for more."""
    return (*_LINUX, *_CGROUPS, *_VOLUMES)


def _choose_working(wanted: Iterable[str], flags: Flags) -> Choice:
    from mesocosm.launcher.client import LauncherProcess
    from mesocosm.launcher.selection import create_launcher

    try:
        create_launcher(flags, LauncherProcess())
    except FlagError as error:
        return Choice(_POSIX, "posix", dict.fromkeys(wanted, str(error)))
    return _with(Choice((), "linux"), wanted, flags)


def _with(choice: Choice, more: Iterable[str], flags: Flags) -> Choice:
    """`choice`, and those of `more` that work here; of the others, why they do not."""
    isolation, missing = list(choice.isolation), dict(choice.missing)
    for name in more:
        if (why := refusal(name, flags, missing)) is None:
            isolation.append(name)
        else:
            missing[name] = why
    return Choice(tuple(isolation), choice.launcher, missing)


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
