"""The interface of a containerizer."""

from __future__ import annotations

import enum
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    PersistentVolume,
    Resources,
    Termination,
)
from mesocosm.dataclass import dataclass
from mesocosm.launcher.info import Credentials
from mesocosm.statistics import ResourceStatistics

if TYPE_CHECKING:
    from mesocosm.images.provisioner import Provisioner
    from mesocosm.images.store import Pruned
    from mesocosm.launcher.base import InitProcess


class LaunchResult(enum.Enum):
    """What became of a launch that has not failed."""

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

    def close(self) -> None:
        """Closes the descriptors, for their owner."""
        for descriptor in (self.stdin, self.stdout, self.stderr):
            if descriptor is not None:
                os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Times:
    """When a container was launched and when it ended, in seconds of the epoch, as far as that is on record."""

    launched: float | None = None
    ended: float | None = None


Fetch = Callable[[ContainerID, ContainerConfig, Credentials | None, int], Awaitable[None]]
"""Brings what a command needs into its sandbox; tells of it in the descriptor. Raises MesocosmError or OSError."""

MESOS_PULLS = "containerizer/mesos/provisioner/docker_store/image_pull"
DOCKER_PULLS = "containerizer/docker/image_pull"
"""How Mesos calls the times that images took to come, of either containerizer."""

Log = Callable[[ContainerID, ContainerConfig, Path], Awaitable[ContainerIO]]
"""Where the output of a container goes that its caller has no descriptors for; they are closed after the launch."""


@dataclass(frozen=True, slots=True)
class Starting:
    """A container whose command is about to be executed, for who holds the other ends of its streams.

    `terminal` is the master of its terminal, if it has one. Its output is logged to `stdout` and `stderr`, which are to
    be copied by who wants to keep them.
    """

    container_id: ContainerID
    config: ContainerConfig
    init: InitProcess
    terminal: int | None
    stdout: int
    stderr: int


class Containerizer(Protocol):
    """Launches containers, watches over them, and takes them apart.

    Every method that is a coroutine may raise MesocosmError, OSError or ExceptionGroup of them. Containerizers of
    different kinds may have the same flags: what each keeps is in a place of its own below `runtime_dir`.
    """

    @property
    def destroy_errors(self) -> int:
        """How often a container could not be taken apart."""

    @property
    def isolation(self) -> list[str]:
        """The names of the isolators that containers are made of; none, where something else makes them."""

    @property
    def provisioner(self) -> Provisioner | None:
        """What makes root file systems of images, if that is done here."""

    # Beginning and end.

    def start(self) -> None:
        """Makes ready for launches. Raises FlagError or OSError; what it has taken by then, `close` gives back."""

    def time_pulls(self, record: Callable[[str, float], None]) -> None:
        """Has `record` called for each image that has come: by which name that is told, and the seconds it took."""

    def warm_up_programs(self) -> None:
        """Has ready what the first container of a built-in program would wait for. Raises OSError."""

    async def recover(self, known: Collection[ContainerID] | None = None, *, strict: bool = True) -> None:
        """Takes up the containers that an earlier containerizer with the same directories left.

        Those that are not among `known` are destroyed with everything they hold. None: all of them are known. Raises
        RecoveryError for state on disk that is damaged; if not `strict`, such a container is destroyed. ExceptionGroup
        is for what could not be destroyed, when all others are recovered.
        """

    async def close(self) -> None:
        """Lets go of everything. Containers whose commands run, or may, go on; any other leaves nothing."""

    # What can be done with a container.

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        """Makes a container and starts its command. Has left nothing if it raises."""

    async def attach(self, container_id: ContainerID) -> int:
        """The master of the container's terminal, which then is the caller's."""

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes what a running container may use."""

    async def update_volumes(self, container_id: ContainerID, volumes: tuple[PersistentVolume, ...]) -> None:
        """Has a running container see these persistent volumes, and no others any more."""

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What a running container uses."""

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What a running container is."""

    async def wait(self, container_id: ContainerID) -> Termination:
        """Returns when the container has ended and everything it held is given back, also if that was before.

        Raises UnknownContainerError for one that is not known.
        """

    async def destroy(self, container_id: ContainerID) -> Termination | None:
        """Ends a container in any state, nested ones first; None for one that is not known."""

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        """Sends a signal to the container's command; False if that has ended."""

    async def remove(self, container_id: ContainerID) -> None:
        """Forgets a container that has ended, and its sandbox."""

    async def prune_images(self, excluded: Collection[str] = ()) -> Pruned | None:
        """Deletes the images that no container uses, but those `excluded`; None where there are none at all."""

    # What there is.

    async def containers(self) -> set[ContainerID]:
        """The containers that have not ended."""

    def terminated(self) -> set[ContainerID]:
        """Those that have, and were not removed."""

    def knows(self, container_id: ContainerID) -> bool:
        """Whether it is one of either."""

    def pending(self) -> dict[ContainerID, str]:
        """Those that are on their way to run, or to end, and where they are on it: a state, in capitals."""

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        """What was asked of a container; None for one that is not known, or has ended."""

    def recorded(self, container_id: ContainerID) -> ContainerConfig | None:
        """The same, also of one that has ended and was not removed. Raises RecoveryError for a damaged record."""

    def sandbox(self, container_id: ContainerID) -> Path:
        """The sandbox of a container that asked for no other."""

    def times(self, container_id: ContainerID) -> Times:
        """When a container was launched and when it ended, as far as that is known. Raises OSError."""

    def gauges(self) -> dict[str, Callable[[], float]]:
        """Numbers for metrics, by their names."""
