"""One launch out of the parts that isolators have in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Any

from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError
from mesocosm.launcher.info import Credentials, LaunchInfo
from mesocosm.launcher.operations import Operation
from mesocosm.linux.namespaces import Namespace


def merge(parts: Iterable[LaunchInfo]) -> LaunchInfo:
    """All `parts` as one: namespaces, variables and groups united, operations in order.

    A volume comes before those below it, so that none hides another, and else they are in order, too. Raises
    ContainerError where two parts want different things of what there is only one of, and for operations that the
    launcher process does not know.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        for name, default, value in zip(_NAMES, _DEFAULTS, _values(part), strict=True):
            if value is not default and value != default:
                merged[name] = _join(name, merged[name], value) if name in merged else value
    info = LaunchInfo(**merged)
    info = replace(info, volumes=tuple(sorted(info.volumes, key=_depth)), credentials=_with_groups(info))
    if both := info.enter_namespaces & info.clone_namespaces & ~Namespace.PID:
        raise ContainerError(f"the {both.file} namespace is to be both the parent's and a new one")
    if info.hostname is not None and Namespace.UTS not in info.clone_namespaces:
        raise ContainerError(f"the host name {info.hostname} takes a UTS namespace of the container's own")
    for operation in info.changes:
        _check_known(operation)
    return info


def _check_known(operation: Operation) -> None:
    """Raises ContainerError for an operation of another package: the launcher process never imports its class."""
    kind = type(operation)
    if not kind.__module__.startswith(_LAUNCHER):
        raise ContainerError(
            f"the launcher does not know the operation {kind.__module__}.{kind.__qualname__}",
            "use those of mesocosm.launcher.operations, and the isolator's isolate() for the rest",
        )


def _with_groups(info: LaunchInfo) -> Credentials | None:
    """The credentials, with the other groups."""
    if info.credentials is None or not info.supplementary_groups:
        return info.credentials
    groups = dict.fromkeys((*info.credentials.groups, *info.supplementary_groups))
    return replace(info.credentials, groups=tuple(groups))


def _depth(operation: Operation) -> int:
    """How many directories its target is in."""
    return len(PurePosixPath(operation.place).parts)


def _join(name: str, before: Any, added: Any) -> Any:
    if isinstance(before, Namespace | bool):
        return before | added
    if name in ("first", "operations", "volumes", "supplementary_groups", "rlimits"):
        return before + added
    if name == "cgroups":
        return tuple(dict.fromkeys(before + added))  # On v2, all have the same one.
    if isinstance(before, Mapping):
        return {**before, **added}
    if before != added:
        raise ContainerError(f"two isolators disagree on the container's {name.replace('_', ' ')}: {before}, {added}")
    return before


_LAUNCHER = f"{__name__.rpartition('.')[0]}."
_NAMES = tuple(entry.name for entry in fields(LaunchInfo))
_values = attrgetter(*_NAMES)
_DEFAULTS = _values(LaunchInfo())
