"""What the containerizer does with an isolator and an init, for processes that are no inits."""

from __future__ import annotations

from mesocosm.container import ContainerID
from mesocosm.isolators.base import Isolator
from mesocosm.linux import cgroup


async def isolate(isolator: Isolator, container_id: ContainerID, pid: int) -> None:
    """Isolates the process, and moves it where an init would move itself."""
    await isolator.isolate(container_id, pid)
    for group in isolator.joins(container_id):
        cgroup.assign(group, pid)
