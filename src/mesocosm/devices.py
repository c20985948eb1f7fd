"""The flag `--allowed_devices`: devices of the host that an operator lets containers use."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesocosm.dataclass import dataclass
from mesocosm.errors import FlagError
from mesocosm.linux.cgroup.devices import Rule

_FLAG = "--allowed_devices"
_EXAMPLE = 'write {"allowed_devices": [{"device": {"path": "/dev/fuse"}, "access": {"read": true, "write": true}}]}'
_ACCESS = {"read": "r", "write": "w", "mknod": "m"}


@dataclass(frozen=True, slots=True)
class AllowedDevice:
    """A device at `path` of the host, and what its numbers are and containers may do with it."""

    path: str
    rule: Rule


def allowed_devices(whitelist: Mapping[str, Any] | None) -> tuple[AllowedDevice, ...]:
    """What a `DeviceWhitelist` of Mesos allows. Raises FlagError for what is none, and for a path that is no device."""
    if whitelist is None:
        return ()
    entries = whitelist.get("allowed_devices", [])
    if set(whitelist) - {"allowed_devices"} or not isinstance(entries, list):
        raise FlagError(f"{_FLAG}: the value is no DeviceWhitelist", _EXAMPLE)
    return tuple(_device(entry) for entry in entries)


def _device(entry: Any) -> AllowedDevice:
    try:
        path, asked = entry["device"]["path"], dict(entry["access"])
    except (KeyError, TypeError, ValueError):
        raise FlagError(f"{_FLAG}: {entry} has no path of a device, or no access", _EXAMPLE) from None
    if set(asked) - set(_ACCESS) or not all(isinstance(value, bool) for value in asked.values()):
        raise FlagError(f"{_FLAG}: the access to {path!r} is not of read, write and mknod, each true or false")
    access = "".join(letter for name, letter in _ACCESS.items() if asked.get(name))
    if not access:
        raise FlagError(f"{_FLAG}: no access to {path!r} is allowed", "allow read, write or mknod, or leave it out")
    try:
        status = Path(path).stat()
    except (OSError, TypeError, ValueError) as error:
        raise FlagError(f"{_FLAG}: there is no device {path!r}: {error}") from None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise FlagError(f"{_FLAG}: {path!r} is neither a block nor a character device")
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
    return AllowedDevice(path, Rule(kind, os.major(status.st_rdev), os.minor(status.st_rdev), access))
