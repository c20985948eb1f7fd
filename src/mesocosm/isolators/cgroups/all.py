"""`cgroups/all`: every isolator of a cgroup controller that this host has."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from mesocosm.errors import UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators import cgroups
from mesocosm.isolators.cgroups.base import CgroupIsolator


def expand(flags: Flags) -> tuple[str, ...]:
    """The names of the isolators in this package whose controllers are there; the others are left out."""
    names = sorted(module.name for module in pkgutil.iter_modules(cgroups.__path__))
    modules = (importlib.import_module(f"{cgroups.__name__}.{name}") for name in names)
    return tuple(isolator.name() for module in modules for isolator in _isolators(module) if _works(isolator, flags))


def _isolators(module: ModuleType) -> list[type[CgroupIsolator]]:
    """The isolators that a module defines: none for this one and the common base."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, CgroupIsolator)
        and value.__module__ == module.__name__
        and value is not CgroupIsolator
    ]


def _works(isolator: type[CgroupIsolator], flags: Flags) -> bool:
    try:
        isolator.find(flags)
    except UnsupportedError:
        return False
    return True
