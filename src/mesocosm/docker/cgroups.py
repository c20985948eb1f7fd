"""The cgroups that Docker, or Podman, has made for a container: what they tell of it, and what can be changed there."""

from __future__ import annotations

import math
import time
from pathlib import PurePosixPath
from typing import Any

from mesocosm.container import Resources
from mesocosm.docker.options import MEMORY_MINIMUM
from mesocosm.docker.values import Container, DockerError
from mesocosm.flags import Flags
from mesocosm.linux import cgroup
from mesocosm.linux.cgroup.cpu import Cpu, CpuTimes, UnifiedCpu
from mesocosm.linux.cgroup.memory import Memory, UnifiedMemory
from mesocosm.statistics import ResourceStatistics


class ContainerCgroups:
    """Those of one running container, of v1 or v2. Methods raise OSError, also when it has ended.

    They are changed without Docker, which needs not answer for that. What `docker inspect` says of them is then what
    the container began with.
    """

    def __init__(self, container: Container, flags: Flags) -> None:
        """Raises DockerError for a container that does not run, or whose cgroups cannot be seen here, and OSError."""
        mounted = cgroup.hierarchies(str(flags.cgroups_hierarchy))
        self._cpu_group, is_unified = _find(container, mounted, "cpu")
        self._cpu = UnifiedCpu() if is_unified else Cpu()
        self._accounting = self._cpu_group if is_unified else _find(container, mounted, "cpuacct")[0]
        self._memory_group, is_unified = _find(container, mounted, "memory")
        self._memory = UnifiedMemory() if is_unified else Memory()
        self._cpus_are_bounded = flags.cgroups_enable_cfs
        self._times = CpuTimes()

    def usage(self) -> ResourceStatistics:
        """What the container uses, and its limits."""
        self._times, cpu = self._cpu.measure(self._cpu_group, self._accounting, self._times)
        amounts: dict[str, Any] = {f"cpus_{name}": amount for name, amount in cpu.items()}
        memory = self._memory.measure(self._memory_group, swap=True)
        amounts |= {f"mem_{name}_bytes": amount for name, amount in memory.items()}
        return ResourceStatistics(timestamp=time.time(), **amounts)

    def update(self, resources: Resources, limits: Resources) -> None:
        """Writes the amounts that are given. The limit of memory is only raised: to lower it could end the container.

        Without a limit that is the request too: for memory always, for CPUs by the flag cgroups_enable_cfs.
        """
        if resources.cpus is not None:
            self._cpu.set_share(self._cpu_group, resources.cpus)
        cpus = resources.cpus if limits.cpus is None and self._cpus_are_bounded else limits.cpus
        if cpus is not None:
            self._cpu.set_quota(self._cpu_group, cpus)
        if resources.mem is not None:
            self._memory.set_request(self._memory_group, _memory(resources.mem))
        mem = resources.mem if limits.mem is None else limits.mem
        if mem is not None:
            self._memory.raise_limit(self._memory_group, None if math.isinf(mem) else _memory(mem))


def _memory(amount: float) -> int:
    return max(int(amount), MEMORY_MINIMUM)


def _find(container: Container, mounted: cgroup.Hierarchies, controller: str) -> tuple[str, bool]:
    """The cgroup of the container that has a controller, and whether that is of v2.

    It is named after the container (`ID`, `docker-ID.scope`, `libpod-ID.scope`), whose process may be in one below it.
    What has another name is not the container's: a process that has ended is in the root, and its pid may be another's.
    """
    hierarchy = mounted.of(controller)
    if hierarchy is None:
        raise DockerError(f"there is no {controller} controller here to see what {container.name} uses", "mount it")
    if container.pid is None:
        raise DockerError(f"{container.name} does not run")
    path = PurePosixPath(cgroup.membership(hierarchy, container.pid))
    for group in (path, *path.parents):
        if container.id in group.name:
            return str(group), hierarchy.version == 2
    raise DockerError(f"{container.name} is in no cgroup of its own, but in {path}: it ends")
