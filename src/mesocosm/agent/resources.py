"""What the agent has to offer: what its flags say, and for the rest what the machine has, by the rules of Mesos.

Source: `Containerizer::resources` in slave/containerizer/containerizer.cpp.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import psutil

from mesocosm.api import convert, v1
from mesocosm.api.value_text import parse_resources
from mesocosm.container import DiskType
from mesocosm.errors import ContainerError
from mesocosm.flags import AGENT_PORTS
from mesocosm.linux.mount import is_mount_point

_GB = 1 << 30
_MB = 1 << 20
_PORTS = f"[{', '.join(f'{first}-{last}' for first, last in AGENT_PORTS)}]"


def offered(text: str | None, default_role: str, work_dir: Path) -> tuple[v1.Resource, ...]:
    """The resources of `text`, and what it does not name of cpus, mem, disk and ports. Raises ValueError or OSError.

    A machine's cores; its memory but 1 GB, and the disk of `work_dir` but 5 GB, in MB, or half of small ones.
    """
    given = parse_resources(text or "", default_role)
    names = {resource.name for resource in given}
    memory = psutil.virtual_memory().total
    disk = shutil.disk_usage(work_dir).total
    found = {
        "cpus": str(os.cpu_count() or 1),
        "mem": str((memory - _GB if memory >= 2 * _GB else memory // 2) // _MB),
        "disk": str((disk - 5 * _GB if disk >= 10 * _GB else disk // 2) // _MB),
        "ports": _PORTS,
    }
    rest = ";".join(f"{name}:{value}" for name, value in found.items() if name not in names)
    # An amount of 0 says that there is nothing, and is not offered.
    return (*(resource for resource in given if not _is_nothing(resource)), *parse_resources(rest, default_role))


def offered_ports(text: str | None, default_role: str) -> tuple[tuple[int, int], ...]:
    """The ports among the resources of `text`, or those that are offered where it has none. Raises ValueError."""
    named = [resource for resource in parse_resources(text or "", default_role) if resource.name == "ports"]
    if not named:
        return AGENT_PORTS
    return tuple((part.begin, part.end) for resource in named for part in resource.ranges.range)


def make_disks(resources: Iterable[v1.Resource], work_dir: Path) -> None:
    """Has the disks there that are named: makes the directory of a PATH. Raises ValueError for a MOUNT without one.

    As Mesos does when an agent starts. Raises OSError.
    """
    for resource in resources:
        if not resource.disk.HasField("source"):
            continue
        try:
            disk = convert.disk_source(resource.disk.source)
        except ContainerError as error:
            raise ValueError(str(error)) from None
        root = work_dir / disk.root
        if disk.type is DiskType.PATH:
            root.mkdir(parents=True, exist_ok=True)
        elif not is_mount_point(os.path.realpath(root)):
            raise ValueError(f"nothing is mounted at {root}, which is to be a disk of the type MOUNT; mount it there")


def total(resources: Iterable[v1.Resource], name: str) -> float:
    """How much there is of a scalar resource, for whichever role, in thousandths as Mesos counts."""
    return round(sum(resource.scalar.value for resource in resources if resource.name == name), 3)


def role_of(resource: v1.Resource) -> str:
    """Who a resource is reserved for; `*` if it is for everybody."""
    return resource.reservations[-1].role if resource.reservations else "*"


def _is_nothing(resource: v1.Resource) -> bool:
    if resource.type == v1.Value.SCALAR:
        return resource.scalar.value == 0
    return not (resource.ranges.range or resource.set.item)
