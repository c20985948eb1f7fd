"""Which isolators `--isolation` means: names, aliases, what they need, and the order they work in."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Collection, Iterable
from functools import cache

from mesocosm import isolators
from mesocosm.container import ContainerConfig
from mesocosm.dataclass import dataclass, replace
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.isolators.concerns import concerns
from mesocosm.linux.namespaces import Namespace, supported

ENTRY_POINTS = "mesocosm.isolators"
ALIASES = {
    "process": ("posix/cpu", "posix/mem"),
    "cgroups": ("cgroups/cpu", "cgroups/mem"),
    "posix/disk": ("disk/du",),
}
"""What deprecated names stand for."""
_EVERY_CGROUP = "cgroups/all"
_ALWAYS = ("environment_secret",)
_DEFAULT_FILESYSTEM = "filesystem/posix"
_DEFAULT_NETWORK = "network/cni"

REFUSED = {
    "gpu/nvidia": (
        "it takes a GPU of NVIDIA and its driver, without which it cannot be tested",
        "allow the devices: --allowed_devices and --isolation=linux/devices,cgroups/devices",
    ),
    "appc/runtime": (
        "appc was given up in 2016, and nothing makes such images any more",
        "use an image of Docker or OCI",
    ),
    "volume/csi": (
        "its volumes are those of a storage provider, which a master offers",
        "mount the volume on the host, and use a host path",
    ),
    "network/port_mapping": (
        "it divides the ports of the host's one address among containers, for which there is CNI today",
        "use network/cni with the plugin portmap",
    ),
    "windows/cpu": ("this is for Linux and macOS", "use posix/cpu or cgroups/cpu"),
    "windows/mem": ("this is for Linux and macOS", "use posix/mem or cgroups/mem"),
    "filesystem/windows": ("this is for Linux and macOS", "use filesystem/posix or filesystem/linux"),
}
"""Isolators of Mesos that there will not be: why, and what to do instead."""
_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)?")
_NO_ISOLATORS = frozenset({"base", "concerns", "mounting", "projects", "records", "selection"})


@dataclass(frozen=True, slots=True)
class NamedIsolator:
    """An isolator and the name it was asked for by."""

    name: str
    isolator: Isolator


@cache
def built_in() -> tuple[str, ...]:
    """The names of the isolators that come with Mesocosm, sorted."""
    prefix = f"{isolators.__name__}."
    return tuple(
        sorted(
            module.name.removeprefix(prefix).replace(".", "/")
            for module in pkgutil.walk_packages(isolators.__path__, prefix)
            if not module.ispkg and module.name.rpartition(".")[2] not in _NO_ISOLATORS
        )
    )


def names(flags: Flags, launcher: str, sole: ContainerConfig | None = None) -> list[str]:
    """The isolators of `--isolation`, in the order they work in; those with something to do for a `sole` container.

    Raises FlagError for a list that makes no sense.
    """
    given = flags.isolators
    for name in given:
        if given.count(name) > 1:
            raise FlagError(f"--isolation names {name!r} twice", "remove one of them")
    wanted = list(dict.fromkeys(meant for name in given for meant in _expand(name, flags)))
    filesystems = [name for name in wanted if name.startswith("filesystem/")]
    if len(filesystems) > 1:
        raise FlagError(f"--isolation names both {filesystems[0]!r} and {filesystems[1]!r}", "keep one of them")
    if not filesystems:
        wanted.append(_DEFAULT_FILESYSTEM)
    wanted += _default_network(wanted, launcher)
    classes = {name: find(name) for name in _concerned((*wanted, *_ALWAYS), sole)}
    for brought in _concerned((name for kind in classes.values() for name in kind.brings), sole):
        classes.setdefault(brought, find(brought))
    for name, kind in classes.items():
        _check_needs(name, kind, classes, launcher)
    # Sorting is stable: those of other packages keep the order they were given in.
    order = {name: (0, kind.phase, name) for name, kind in classes.items() if kind.__module__.startswith("mesocosm.")}
    return sorted(classes, key=lambda name: order.get(name, (1, 0, "")))


def select(flags: Flags, launcher: str, sole: ContainerConfig | None = None) -> list[NamedIsolator]:
    """The isolators of `--isolation`, ready to work; those with something to do for a `sole` container.

    Raises FlagError that names the one this host cannot do.
    """
    selected = []
    chosen = names(flags, launcher, sole)
    flags = replace(flags, isolation=",".join(chosen))
    for name in chosen:
        try:
            selected.append(NamedIsolator(name, find(name).create(flags)))
        except UnsupportedError as error:
            raise FlagError(f"--isolation: {name!r} does not work here: {error.message}", error.hint) from error
    return selected


def find(name: str) -> type[Isolator]:
    """The class of the isolator `name`, of Mesocosm or of another package. Raises FlagError if there is none."""
    if (kind := _find_built_in(name)) is not None:
        return kind
    if name in REFUSED:
        reason, instead = REFUSED[name]
        raise FlagError(f"--isolation: there is no {name!r} here: {reason}", instead)
    # Imported here: it takes longer than a launch, and few have isolators of other packages.
    from mesocosm import plugins

    return plugins.find("isolation", ENTRY_POINTS, name, Isolator, built_in())


def _find_built_in(name: str) -> type[Isolator] | None:
    """The class of one that comes with Mesocosm, without a look at all the others."""
    if not _NAME.fullmatch(name) or name.rpartition("/")[2] in _NO_ISOLATORS:
        return None
    path = f"{isolators.__name__}.{name.replace('/', '.')}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):
            raise
        return None
    kinds = (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Isolator))
    return next((kind for kind in kinds if kind.__module__ == path), None)


def _concerned(wanted: Iterable[str], sole: ContainerConfig | None) -> list[str]:
    return [name for name in dict.fromkeys(wanted) if sole is None or concerns(name, sole)]


def _expand(name: str, flags: Flags) -> Iterable[str]:
    if name == _EVERY_CGROUP:
        every = importlib.import_module(f"{isolators.__name__}.cgroups.all")
        return tuple(every.expand(flags))
    return ALIASES.get(name, (name,))


def _default_network(wanted: Collection[str], launcher: str) -> list[str]:
    """What comes with the Linux launcher if it can be: networks of containers' own, and the names of the host's."""
    networks = [name for name in wanted if name.startswith("network/") and name != "network/ports"]
    if networks or launcher != "linux":
        return []
    return [_DEFAULT_NETWORK] if supported(Namespace.NETWORK) and supported(Namespace.UTS) else []


def _check_needs(name: str, kind: type[Isolator], selected: Iterable[str], launcher: str) -> None:
    for needed in kind.requires:
        if needed not in selected:
            raise FlagError(f"--isolation: {name!r} needs {needed!r}", f"add {needed!r} to the list")
    if kind.requires_launcher not in (None, launcher):
        raise FlagError(
            f"--isolation: {name!r} needs the {kind.requires_launcher} launcher, not {launcher!r}",
            f"use --launcher={kind.requires_launcher}, as root on Linux, or remove the name",
        )
