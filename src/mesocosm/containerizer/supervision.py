"""What is seen of a container from the start of its command to its end: its exit status, a limit, what it used."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from mesocosm.container import Termination
from mesocosm.containerizer.checkpoint import Checkpoints
from mesocosm.containerizer.isolation import Isolation
from mesocosm.containerizer.lifecycle import Container
from mesocosm.launcher.messages import Kind
from mesocosm.statistics import Limitation, ResourceStatistics

KILLED = Termination(status=int(signal.SIGKILL))
"""How a container ends that is destroyed, and one whose init was killed before it could tell."""


@dataclass(frozen=True, slots=True)
class Supervision:
    """What all containers have in common that run."""

    isolation: Isolation
    checkpoints: Checkpoints

    async def end(self, container: Container) -> Termination:
        """Waits until the command ends or runs into a limit. Raises MesocosmError or OSError."""
        status = await self._exit_status(container, container.watches)
        limitation = next((watch.result() for watch in container.watches if watch.done()), None)
        return _terminated(status, limitation or await self.isolation.limitation(container.container_id))

    async def _exit_status(self, container: Container, watches: Sequence[asyncio.Future[Limitation]]) -> int | None:
        """The status of the command; SIGKILL's if it ran into a limit, or its init was killed before it could tell."""
        if container.channel is not None:
            report = await container.channel.report(watches)
            if report is not None and report.kind is Kind.RUNNING:
                # Not read by a containerizer that was killed just after the launch. A second one would be a forgery.
                report = await container.channel.report(watches)
            if report is None or report.kind is not Kind.EXITED:
                return KILLED.status
            container.report = report
            return report.value
        assert container.init is not None
        await container.init.exited()
        recorded = self.checkpoints.termination(container.container_id)
        return KILLED.status if recorded is None else recorded.status

    async def last_usage(self, container: Container) -> ResourceStatistics:
        """What the container used up to its end; what nobody measured is filled in from wait4(2)."""
        known = []
        if container.report is not None:
            known.append(
                ResourceStatistics(
                    cpus_user_time_secs=container.report.user_time / 1e6,
                    cpus_system_time_secs=container.report.system_time / 1e6,
                    mem_maximum_bytes=container.report.memory,
                )
            )
        return await self.isolation.last_usage(container.container_id, known)


def _terminated(status: int | None, limitation: Limitation | None) -> Termination:
    if limitation is None:
        return Termination(status)
    return Termination(
        status,
        limitation.reason,
        limitation.message,
        limitation.resource,
        limited_ranges=limitation.ranges,
        limited_amount=limitation.amount,
    )
