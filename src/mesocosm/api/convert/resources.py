"""Amounts: requests, limits, and persistent volumes, which are requests, too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mesocosm.api import v1
from mesocosm.container import DiskSource, DiskType, PersistentVolume, Resources, VolumeMode
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError

MB = 1 << 20
"""The unit of `mem` and `disk` in messages."""
_MOST = float(1 << 40)
"""Cores, or MB: far more than any machine has, and their bytes still are a 64-bit number."""


def resources(messages: Iterable[v1.Resource]) -> Resources:
    """The requests of cpus, mem, disk and ports, added up over all roles. Raises ContainerError.

    Others (gpus, or what an operator made up) are promises of the agent that no isolator of this version keeps track
    of; as Mesos without theirs, this does not look at them. What of the disk is a volume is not the sandbox's.
    """
    totals: dict[str, float] = {}
    revocable = False
    ports: tuple[tuple[int, int], ...] = ()
    for message in messages:
        if message.HasField("disk"):
            continue
        if message.HasField("revocable") and message.name != "cpus":
            raise ContainerError(f"resources: {message.name!r} is revocable, which only 'cpus' can be")
        revocable |= message.HasField("revocable")
        totals[message.name] = totals.get(message.name, 0.0) + message.scalar.value
        if message.name == "ports":
            ports += tuple((part.begin, part.end) for part in message.ranges.range)
    # A request for nothing is none.
    amounts = {name: total for name, total in totals.items() if name in (*_AMOUNTS, "disk") and total != 0}
    return replace(_amounts("resources", amounts), ports=ports or None, cpus_revocable=revocable)


def limits(messages: Mapping[str, v1.Value.Scalar]) -> Resources:
    """The limits of cpus and mem; infinite: none, though there is a request. Raises ContainerError for any other."""
    for name in messages:
        if name not in _AMOUNTS:
            raise ContainerError(f"limits: {name!r} is not supported", f"limit {' and '.join(_AMOUNTS)}")
    return _amounts("limits", {name: messages[name].value for name in messages}, infinite=True)


_AMOUNTS = ("cpus", "mem")


def _amounts(where: str, amounts: Mapping[str, float], *, infinite: bool = False) -> Resources:
    for name, amount in amounts.items():
        if not (0 < amount < _MOST or (infinite and amount == math.inf)):
            raise ContainerError(f"{where}: {amount:g} is no amount of {name!r}")
    cpus = amounts.get("cpus")
    mem = amounts.get("mem")
    return Resources(
        cpus=None if cpus is None else round(cpus, 3),  # All the digits that Mesos counts.
        mem=mem if mem is None or math.isinf(mem) else _bytes(mem),
        disk=_bytes(amounts["disk"]) if "disk" in amounts else None,
    )


def _bytes(megabytes: float) -> int:
    return round(megabytes * MB)


def persistent_volumes(messages: Iterable[v1.Resource]) -> tuple[PersistentVolume, ...]:
    """The parts of disks that outlive containers. Raises ContainerError for what else could be mounted of disks.

    A shared volume that several tasks of a container have in the same place is there once. Space on a named disk that
    is no volume is a promise of the agent, as `gpus` are.
    """
    volumes = (persistent_volume(each) for each in messages if each.disk.HasField("persistence") or _is_mounted(each))
    return tuple(dict.fromkeys(volumes))


def _is_mounted(message: v1.Resource) -> bool:
    return message.HasField("disk") and (message.disk.HasField("volume") or not message.disk.HasField("source"))


def persistent_volume(message: v1.Resource) -> PersistentVolume:
    """The volume that a resource is, with where a container sees it. Raises ContainerError."""
    disk = message.disk
    if not disk.HasField("persistence"):
        raise ContainerError("resources: of the resource 'disk', only persistent volumes can be had in a container")
    persistence, volume = disk.persistence, disk.volume
    if not disk.HasField("volume"):
        raise ContainerError(f"resources: the persistent volume {persistence.id!r} has no container_path")
    return PersistentVolume(
        persistence.id,
        message.reservations[-1].role if message.reservations else message.role,
        _bytes(message.scalar.value),
        volume.container_path,
        VolumeMode[v1.Volume.Mode.Name(volume.mode)],
        persistence.principal if persistence.HasField("principal") else None,
        disk_source(disk.source) if disk.HasField("source") else None,
        message.HasField("shared"),
    )


def disk_source(source: v1.Resource.DiskInfo.Source) -> DiskSource:
    """The disk that an operator named. Raises ContainerError for the kinds that only resource providers have."""
    kind = v1.Resource.DiskInfo.Source.Type.Name(source.type)
    if kind not in DiskType.__members__:
        raise ContainerError(f"resources: a disk of the type {kind} is not supported", "use PATH or MOUNT")
    if not (root := getattr(source, kind.lower()).root):
        raise ContainerError(f"resources: a disk of the type {kind} has no root", f"say where it is in {kind.lower()}")
    return DiskSource(DiskType[kind], root)
