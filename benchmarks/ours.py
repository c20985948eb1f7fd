"""Mesocosm as the benchmarks use it: the containerizer, in this process, with the isolators that they name."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Resources
from mesocosm.flags import Flags
from workplace import Workplace

ISOLATION = "filesystem/linux,namespaces/pid,namespaces/ipc,cgroups/cpu,cgroups/mem,cgroups/pids"

_numbers = itertools.count()


@asynccontextmanager
async def containerizer(place: Workplace) -> AsyncIterator[MesosContainerizer]:
    """A containerizer with directories and cgroups of its own, which are removed in the end."""
    root = f"mesocosm-benchmark-{os.getpid()}"
    flags = Flags(work_dir=place.work, runtime_dir=place.state / "mesocosm", isolation=ISOLATION, cgroups_root=root)
    async with MesosContainerizer(flags) as containerizer:
        try:
            yield containerizer
        finally:
            await destroy_all(containerizer)
    _remove_cgroups(root)


async def launch(containerizer: MesosContainerizer, place: Workplace, *command: str) -> ContainerID:
    """Launches a container that runs `command`."""
    container_id = ContainerID(f"benchmark-{next(_numbers)}")
    resources = Resources(cpus=1, mem=64 << 20, pids=100)
    config = ContainerConfig(CommandInfo.of(command), rootfs=place.rootfs, resources=resources)
    await containerizer.launch(container_id, config)
    return container_id


async def launch_to_exit(containerizer: MesosContainerizer, place: Workplace) -> float:
    """The seconds that a container of `true` takes from before its launch until it is gone with all that it had."""
    start = time.perf_counter()
    container_id = await launch(containerizer, place, "/bin/true")
    termination = await containerizer.wait(container_id)
    elapsed = time.perf_counter() - start
    if termination.exit_status != 0:
        raise RuntimeError(f"{container_id}: {termination}")
    await containerizer.remove(container_id)
    return elapsed


async def destroy_all(containerizer: MesosContainerizer) -> None:
    """Ends every container, and forgets it."""
    for container_id in await containerizer.containers():
        await containerizer.destroy(container_id)
        await containerizer.remove(container_id)


def _remove_cgroups(root: str) -> None:
    for pattern in (root, f"*/{root}"):
        for cgroup in Path("/sys/fs/cgroup").glob(pattern):
            cgroup.rmdir()
