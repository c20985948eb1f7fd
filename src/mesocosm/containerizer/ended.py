"""The containers that have ended and were not removed yet: how each did, on disk too, and what is left of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mesocosm.container import ContainerID, Termination
from mesocosm.containerizer.checkpoint import Checkpoints
from mesocosm.containerizer.sandbox import remove_sandbox
from mesocosm.errors import ContainerError, UnknownContainerError

logger = logging.getLogger(__name__)


class EndedContainers:
    """What is kept of each container from its end until it is removed."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._terminations: dict[ContainerID, Termination] = {}
        self._unrecorded: set[ContainerID] = set()  # Those of which that is not on disk.
        self._removing: dict[ContainerID, asyncio.Future[None]] = {}
        self._terminals: dict[ContainerID, int] = {}  # Those that nobody has attached to.

    def __contains__(self, container_id: ContainerID) -> bool:
        return container_id in self._terminations

    def __iter__(self) -> Iterator[ContainerID]:
        return iter(self._terminations)

    def termination(self, container_id: ContainerID) -> Termination | None:
        """How a container ended; None for one that is not among them."""
        return self._terminations.get(container_id)

    def recover(self, container_id: ContainerID, termination: Termination) -> None:
        """Adds a container whose end is on disk, or is not known to anybody."""
        self._terminations[container_id] = termination

    def add(self, container_id: ContainerID, termination: Termination, *, recorded: bool) -> None:
        """Adds a container of which all is given back; records that, and its end if that is not `recorded` yet."""
        self._terminations[container_id] = termination
        if recorded or self.record(container_id, termination):
            self._checkpoints.forget_launched(container_id)
        else:
            self._unrecorded.add(container_id)  # What says that it did run stays on record.

    def record(self, container_id: ContainerID, termination: Termination) -> bool:
        """Writes a termination; whether it could. A container is taken apart in any case."""
        try:
            self._checkpoints.write_termination(container_id, termination)
        except OSError as error:
            logger.error("the end of %s is not recorded: %s", container_id, error)
            return False
        return True

    async def remove(self, container_id: ContainerID, sandbox: Path) -> None:
        """Forgets a container, those nested in it, and its `sandbox`. Raises ContainerError and OSError.

        The removal of a nested one that has begun comes to its end before.
        """
        while nested := [
            end for other, end in self._removing.items() if other != container_id and other.is_within(container_id)
        ]:
            await asyncio.wait(nested)
        if container_id not in self._terminations:
            raise UnknownContainerError(f"there is no container {container_id}")
        if any(container_id.is_within(other) for other in self._removing):
            raise ContainerError(f"{container_id} is being removed")
        end = self._removing[container_id] = asyncio.get_running_loop().create_future()
        try:
            self._checkpoints.remove(container_id)
            await asyncio.to_thread(remove_sandbox, container_id, sandbox)
        finally:
            del self._removing[container_id]
            end.set_result(None)
        for other in [other for other in self._terminations if other.is_within(container_id)]:
            del self._terminations[other]
            self._unrecorded.discard(other)
        self.close_terminals(container_id)

    def forget(self, container_id: ContainerID) -> None:
        """Keeps nothing of a top-level container but its sandbox. Raises OSError."""
        self._checkpoints.remove(container_id)
        del self._terminations[container_id]
        self._unrecorded.discard(container_id)

    def close(self) -> None:
        """Lets go of what is open, and tries again to record what could not be: the disk may have room by now."""
        for container_id in self._unrecorded:
            if self.record(container_id, self._terminations[container_id]):
                self._checkpoints.forget_launched(container_id)
        self._unrecorded.clear()
        self.close_terminals()

    # The terminals: what a container wrote last is to be read when it has ended.

    def keep_terminal(self, container_id: ContainerID, terminal: int) -> None:
        """Takes over the master of a container's terminal, to which nobody has attached."""
        self._terminals[container_id] = terminal

    def take_terminal(self, container_id: ContainerID) -> int | None:
        """The master of its terminal, which is the caller's to close then; None if none is kept."""
        return self._terminals.pop(container_id, None)

    def close_terminals(self, within: ContainerID | None = None) -> None:
        """Closes the terminals that nobody has taken, of all containers or of those within one."""
        for container_id in [each for each in self._terminals if within is None or each.is_within(within)]:
            os.close(self._terminals.pop(container_id))
