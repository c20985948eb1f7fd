"""What the machine has to offer, by the rules of Mesos (`slave/containerizer/containerizer.cpp`)."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

_GB = 1 << 30
_PORTS = ((31000, 32000),)


@dataclass(frozen=True, slots=True)
class AgentResources:
    """`cpus` in cores, `mem` and `disk` in bytes, `ports` as ranges with both ends."""

    cpus: float
    mem: int
    disk: int
    ports: tuple[tuple[int, int], ...] = _PORTS


def detect(work_dir: Path) -> AgentResources:
    """The machine's cores; its memory but 1 GB; the disk of `work_dir` but 5 GB; half of small ones. Raises OSError."""
    memory = psutil.virtual_memory().total
    disk = shutil.disk_usage(work_dir).total
    return AgentResources(
        cpus=float(os.cpu_count() or 1),
        mem=memory - _GB if memory >= 2 * _GB else memory // 2,
        disk=disk - 5 * _GB if disk >= 10 * _GB else disk // 2,
    )
