"""The isolator `acme/deadline`: a container with DEADLINE=SECONDS in its environment is ended after that time."""

import asyncio
from collections.abc import Collection
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState, Isolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.statistics import Limitation


class DeadlineIsolator(Isolator):
    """Watches the clock. One task for each container that has a deadline, and none for others."""

    def __init__(self) -> None:
        self._deadlines: dict[ContainerID, asyncio.Task[Limitation]] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere. What a host lacks, raise UnsupportedError for, with a hint what to do."""
        return cls()

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Takes up the containers of an earlier process. They get the whole time again."""
        for state in containers:
            self._begin(state.container_id, state.config)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Refuses what makes no sense, before there is a process."""
        self._begin(container_id, config)
        return None

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """What ends the container when it is done."""
        return self._deadlines.get(container_id)

    async def cleanup(self, container_id: ContainerID) -> None:
        """May be called for a container that was never prepared."""
        if (deadline := self._deadlines.pop(container_id, None)) is not None:
            deadline.cancel()

    def _begin(self, container_id: ContainerID, config: ContainerConfig) -> None:
        text = config.environment.get("DEADLINE")
        if text is None:
            return
        if not text.isdecimal():
            raise ContainerError(f"{container_id}: DEADLINE={text} is no number", "write seconds")
        self._deadlines[container_id] = asyncio.create_task(_expire(int(text)))


async def _expire(seconds: int) -> Limitation:
    await asyncio.sleep(seconds)
    return Limitation("REASON_CONTAINER_LIMITATION", f"the deadline of {seconds} s is over", "time")
