"""The interface of a containerizer."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Protocol

from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, Resources, Termination
from mesocosm.dataclass import dataclass
from mesocosm.launcher.info import Credentials
from mesocosm.statistics import ResourceStatistics


class LaunchResult(enum.Enum):
    """What became of a launch that did not fail."""

    SUCCESS = "SUCCESS"
    ALREADY_LAUNCHED = "ALREADY_LAUNCHED"
    NOT_SUPPORTED = "NOT_SUPPORTED"


@dataclass(frozen=True, slots=True)
class ContainerIO:
    """Descriptors for the command's standard streams, which stay the caller's; None is the default of each.

    The defaults are /dev/null, and the files `stdout` and `stderr` of the sandbox.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


Fetch = Callable[[ContainerID, ContainerConfig, Credentials | None, int], Awaitable[None]]
"""Brings what a command needs into its sandbox; tells of it in the descriptor. Raises MesocosmError or OSError."""

Log = Callable[[ContainerID, ContainerConfig, Path], Awaitable[ContainerIO]]
"""Where the output of a container goes that its caller has no descriptors for; they are closed after the launch."""


class Containerizer(Protocol):
    """Launches containers, watches over them, and takes them apart. Every method may raise MesocosmError."""

    async def recover(self, known: Collection[ContainerID] | None = None) -> None:
        """Takes up the containers that an earlier containerizer with the same directories left.

        Those that are not among `known` are destroyed with everything they hold. None: all of them are known.
        """

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        """Makes a container and starts its command. Raises ContainerError, and has left nothing then."""

    async def attach(self, container_id: ContainerID) -> int:
        """The master of the container's terminal, which then is the caller's."""

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes what a running container may use."""

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What a running container uses."""

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What a running container is."""

    async def wait(self, container_id: ContainerID) -> Termination:
        """Returns when the container has ended and everything it held is given back, also if that was before."""

    async def destroy(self, container_id: ContainerID) -> Termination | None:
        """Ends a container in any state, nested ones first; None for one that is not known."""

    async def kill(self, container_id: ContainerID, signal: int) -> bool:
        """Sends a signal to the container's command; False if that has ended."""

    async def containers(self) -> set[ContainerID]:
        """The containers that have not ended."""

    async def remove(self, container_id: ContainerID) -> None:
        """Forgets a container that has ended, and its sandbox."""

    async def prune_images(self, excluded: Collection[str] = ()) -> None:
        """Deletes the images that no container uses."""
