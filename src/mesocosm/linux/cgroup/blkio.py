"""What the blkio controller counts on cgroup v1 (blkio-controller.rst), and the io controller on v2 (cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mesocosm.linux.cgroup import files

Device = tuple[int, int]
"""The major and the minor number."""

_BLOCK_DEVICES = "/sys/block"
_BYTES, _OPERATIONS = "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"
_RULES = "blkio.throttle.read_bps_device"
# Those that are gone, and those that have no queue to count in.
_UNACCOUNTABLE = frozenset({errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOMEDIUM})
_UNIFIED = {"READ": ("rbytes", "rios"), "WRITE": ("wbytes", "wios"), "DISCARD": ("dbytes", "dios")}


@dataclass(frozen=True, slots=True)
class Served:
    """What was done with a device, None for all together: bytes and operations by kind, such as `READ` and `TOTAL`."""

    device: Device | None
    bytes: Mapping[str, int]
    operations: Mapping[str, int]


def served(group: str) -> list[Served]:
    """What the processes of a cgroup of v1 and those below it did, by device, and last in all. Raises OSError."""
    amounts, operations = _parse(files.read(group, _BYTES)), _parse(files.read(group, _OPERATIONS))
    return [
        Served(device, amounts.get(device, {}), operations.get(device, {}))
        for device in sorted(amounts.keys() | operations.keys(), key=lambda device: device or _LAST)
    ]


_LAST = (1 << 32, 0)


def _parse(text: str) -> dict[Device | None, dict[str, int]]:
    """Lines `MAJOR:MINOR KIND NUMBER`, and `Total NUMBER`."""
    parsed: dict[Device | None, dict[str, int]] = {}
    for line in text.splitlines():
        *where, kind, amount = line.split()
        parsed.setdefault(_device(where[0]) if where else None, {})[kind.upper()] = int(amount)
    return parsed


def served_unified(group: str) -> list[Served]:
    """The same for cgroup v2."""
    found = [_parse_unified(line) for line in files.read(group, "io.stat").splitlines() if "=" in line]
    amounts, operations = (sum(part["TOTAL"] for part in parts) for parts in _columns(found))
    return [*found, Served(None, {"TOTAL": amounts}, {"TOTAL": operations})]


def _columns(found: Iterable[Served]) -> tuple[list[Mapping[str, int]], list[Mapping[str, int]]]:
    return [each.bytes for each in found], [each.operations for each in found]


def _parse_unified(line: str) -> Served:
    """A line `MAJOR:MINOR rbytes=NUMBER …`."""
    device, *pairs = line.split()
    numbers = {name: int(value) for name, _, value in (pair.partition("=") for pair in pairs) if value.isdecimal()}
    amounts, operations = (
        {kind: numbers.get(names[column], 0) for kind, names in _UNIFIED.items()} for column in (0, 1)
    )
    return Served(
        _device(device),
        {**amounts, "TOTAL": sum(amounts.values())},
        {**operations, "TOTAL": sum(operations.values())},
    )


def _device(text: str) -> Device:
    major, _, minor = text.partition(":")
    return int(major), int(minor)


def account(root: str, accounted: Collection[str] = ()) -> frozenset[str]:
    """Has every disk but those `accounted` count for all cgroups of v1; returns the names of all that do so now.

    Since Linux 6.10 one counts nothing until it has had a rule (blk_throtl_init in block/blk-throttle.c). The one that
    is written to the `root` of the hierarchy limits nothing. Blocks while the disks are busy. Raises OSError.
    """
    present = {name for name in os.listdir(_BLOCK_DEVICES) if _has_medium(name)}
    for name in sorted(present.difference(accounted)):
        with open(f"{_BLOCK_DEVICES}/{name}/dev") as file:
            number = file.read().strip()
        try:
            files.write(root, _RULES, f"{number} 0")
        except OSError as error:
            if error.errno not in _UNACCOUNTABLE:
                raise
    return frozenset(present)


def _has_medium(name: str) -> bool:
    try:
        with open(f"{_BLOCK_DEVICES}/{name}/size") as file:
            return int(file.read()) > 0
    except FileNotFoundError:
        return False
