"""The interface of an isolator: one method per step in the life of a container, each doing nothing by default."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, Generic, Self, TypeVar

from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, Resources
from mesocosm.dataclass import dataclass, field
from mesocosm.flags import Flags
from mesocosm.launcher.info import LaunchInfo
from mesocosm.statistics import Limitation, ResourceStatistics

NO_STATISTICS, NO_STATUS = ResourceStatistics(), ContainerStatus()
"""What is said where there is nothing to say: for each container, by most isolators."""


class Phase(enum.IntEnum):
    """Where an isolator comes in the order of the launch; isolators of one phase do not depend on one another."""

    FILESYSTEM = 0  # Makes the root in which the others mount.
    CGROUPS = 1
    NAMESPACES = 2
    VOLUMES = 3
    OTHER = 4


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container that a recovery found: its id, what was asked of it, and its init if that was forked."""

    container_id: ContainerID
    config: ContainerConfig
    pid: int | None


class Isolator:
    """One aspect of the isolation of containers.

    A subclass is one file, at the path of its name below `mesocosm/isolators`, and overrides what it needs. Outside
    packages name theirs in the entry point group `mesocosm.isolators`.

    The steps of a launch are `complete`, `prepare`, `isolate`, `joins` and `watch`, each of all isolators before the
    next one, in the order of `names` in selection.py. The images are there before them, and the init from `isolate` on.
    One that is `concurrent` is asked to `announce` where the others `prepare`, and to `prepare` before any is to
    `isolate`. `limitation` is asked when the command has ended, and `cleanup` last, in the reverse order.

    Every method may raise MesocosmError or OSError; the launch then fails and `cleanup` is called.
    """

    phase: ClassVar[Phase] = Phase.OTHER
    requires: ClassVar[tuple[str, ...]] = ()
    """Names of isolators that must be enabled too."""
    brings: ClassVar[tuple[str, ...]] = ()
    """Names of isolators that are enabled with this one."""
    requires_launcher: ClassVar[str | None] = None
    """The launcher (`linux`) that this isolator cannot do without."""

    concurrent: bool = False
    """Whether `prepare` may run while the init sets the container up already. What it returns is not used then."""

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """The isolator for `flags`, having made sure that this host can do it.

        Raises UnsupportedError, with a hint what would make it work, or FlagError for a flag that makes no sense.
        """
        raise NotImplementedError

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Takes up `containers` again, and knows `orphans`, for which `cleanup` will be called."""

    async def complete(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """Before anything but the images is made: `config` with what it leaves open and this isolator knows."""
        return config

    async def announce(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Before the init exists, of one that is `concurrent`: what the launch shall do for this isolator."""
        return None

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Before the container's first process exists: what its launch shall do for this isolator."""
        return None

    async def isolate(self, container_id: ContainerID, pid: int) -> None:
        """The container's init exists as `pid` and waits: it is put where it belongs."""

    def joins(self, container_id: ContainerID) -> Sequence[str]:
        """The cgroups of v1 that the init shall enter by itself, when it is released and before there is a command.

        Who moves another process waits for a grace period of the kernel, which can take ten milliseconds; who moves
        himself does not (cgroup_procs_write_start in kernel/cgroup/cgroup.c).
        """
        return ()

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Resolves when the container runs into a limit for which it must end; None when it never will."""
        return None

    async def limitation(self, container_id: ContainerID) -> Limitation | None:
        """The limit, if any, that the container has run into up to now. Asked once its processes are gone."""
        return None

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Applies new amounts to a running container."""

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Has a running container, whose init `pidfd` names, see the persistent volumes of `config`, and no others."""

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What the container uses of what this isolator measures."""
        return NO_STATISTICS

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What this isolator knows of the running container."""
        return NO_STATUS

    def gauges(self) -> Mapping[str, Callable[[], float]]:
        """Numbers for the metrics of the agent, by their names."""
        return {}

    async def cleanup(self, container_id: ContainerID) -> None:
        """Gives back everything held for the container. Also called when `prepare` failed or never ran (MESOS-6059)."""

    async def close(self) -> None:
        """Gives back what the isolator holds itself. Containers that still run keep what they have."""


@dataclass(slots=True, kw_only=True)
class Watched:
    """What there is to be looked at of one container; a subclass has more. `limitation` is for `Isolator.watch`."""

    limitation: asyncio.Future[Limitation] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, limitation: Limitation) -> None:
        """Has the container end, unless that was said before."""
        if not self.limitation.done():
            self.limitation.set_result(limitation)


AnyWatched = TypeVar("AnyWatched", bound=Watched)


class WatchingIsolator(Isolator, Generic[AnyWatched]):
    """Looks at containers while they run, and may end one: those that are launched, and those that are recovered."""

    def __init__(self) -> None:
        self._watched: dict[ContainerID, AnyWatched] = {}

    async def take_up(self, container_id: ContainerID, config: ContainerConfig) -> AnyWatched | None:
        """What there is to be looked at of a container, from now on; None for one that there is nothing of."""
        raise NotImplementedError

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Takes up those that run, the ones around others first."""
        for state in sorted(containers, key=lambda state: state.container_id.depth):
            await self.prepare(state.container_id, state.config)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Takes up the container."""
        if (watched := await self.take_up(container_id, config)) is not None:
            self._watched[container_id] = watched
        return None

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Resolves when the container has to end."""
        watched = self._watched.get(container_id)
        return None if watched is None else watched.limitation

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the container."""
        self._watched.pop(container_id, None)
