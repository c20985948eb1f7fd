"""What `posix/cpu` and `posix/mem` have in common: the processes of a container, found by their parents."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Self

import psutil

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, UnknownContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState, Isolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.statistics import ResourceStatistics


class PosixIsolator(Isolator):
    """Isolates nothing. Reports what the init of a container and all below it use, as `measure` sums it up."""

    def __init__(self) -> None:
        self._inits: dict[ContainerID, psutil.Process | None] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works wherever there are processes."""
        return cls()

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Finds the inits again."""
        for state in containers:
            self._inits[state.container_id] = None if state.pid is None else _process(state.pid)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Knows the container, which has no process yet."""
        self._inits[container_id] = None
        return None

    async def isolate(self, container_id: ContainerID, pid: int) -> None:
        """Remembers the init, and when it started, which tells it from a later process with the same id."""
        self._inits[container_id] = _process(pid)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What `measure` finds. Raises ContainerError once the init has ended."""
        if container_id not in self._inits:
            raise UnknownContainerError(f"container {container_id} is unknown")
        init = self._inits[container_id]
        if init is None:
            raise ContainerError(f"container {container_id} has no process")
        try:
            # In a thread, as every process of the machine is looked at for its parent.
            return await asyncio.to_thread(lambda: self.measure([init, *init.children(recursive=True)]))
        except psutil.NoSuchProcess as error:
            raise ContainerError(f"container {container_id} has ended: its init {init.pid} is gone") from error

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the container."""
        self._inits.pop(container_id, None)

    def measure(self, processes: Iterable[psutil.Process]) -> ResourceStatistics:
        """What the processes use; those that end meanwhile, or may not be looked at, count as nothing."""
        raise NotImplementedError


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
