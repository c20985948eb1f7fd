"""The states of a container, and what a containerizer remembers of one that has not ended."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Mapping, Sequence

from mesocosm.container import ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.checkpoint import Launched
from mesocosm.dataclass import dataclass, field
from mesocosm.errors import ContainerError
from mesocosm.launcher.base import Child, InitProcess
from mesocosm.launcher.channel import Channel
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.messages import Report
from mesocosm.linux.namespaces import Namespace
from mesocosm.statistics import Limitation

logger = logging.getLogger(__name__)


class State(enum.StrEnum):
    """Where a container is on its way; there are no others."""

    PROVISIONING = "PROVISIONING"
    PREPARING = "PREPARING"
    ISOLATING = "ISOLATING"
    FETCHING = "FETCHING"
    RUNNING = "RUNNING"
    DESTROYING = "DESTROYING"


_NEXT = {
    State.PROVISIONING: State.PREPARING,
    State.PREPARING: State.ISOLATING,
    State.ISOLATING: State.FETCHING,
    State.FETCHING: State.RUNNING,
    State.RUNNING: State.DESTROYING,
}


class Record(enum.Enum):
    """What becomes of the record of a container when it has ended: people may want to see one that is damaged."""

    KEPT = "KEPT"
    REMOVED = "REMOVED"
    SET_ASIDE = "SET_ASIDE"


@dataclass(slots=True, eq=False)
class Container:
    """A container from its launch until everything it held is given back.

    `started` is resolved when its command runs or the launch has failed, `ended` with its termination, and one of
    `watches` when it runs into a limit. The container is `released` when its command may run before anybody is told
    so, and `recorded` if its end is on disk. Its task has `begun` when it can be cancelled; it is `destroyed` when
    somebody has asked for its end, and `abandoned` when its containerizer is being closed.
    """

    container_id: ContainerID
    config: ContainerConfig
    started: asyncio.Future[None]
    ended: asyncio.Future[Termination]
    state: State = State.PROVISIONING
    task: asyncio.Task[None] | None = None
    init: InitProcess | None = None
    channel: Channel | None = None
    launched: Launched | None = None
    secret_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    made_sandbox: bool = False
    released: bool = False
    watches: Sequence[asyncio.Future[Limitation]] = ()
    report: Report | None = None
    termination: Termination | None = None
    recorded: bool = False
    failure: Exception | None = None
    children: set[ContainerID] = field(default_factory=set)
    begun: bool = False
    destroyed: bool = False
    abandoned: bool = False
    record: Record = Record.KEPT

    @classmethod
    def create(cls, container_id: ContainerID, config: ContainerConfig) -> Container:
        """A container at the beginning of its way, in the running event loop."""
        loop = asyncio.get_running_loop()
        return cls(container_id, config, loop.create_future(), loop.create_future())

    def enter(self, state: State) -> None:
        """Goes on to `state`: the next on the way, or DESTROYING from any."""
        assert state in (_NEXT.get(self.state), State.DESTROYING), f"{self.container_id}: {self.state} to {state}"
        logger.debug("container %s: %s", self.container_id, state)
        self.state = state

    @property
    def may_run(self) -> bool:
        """Whether its command runs, also if nobody has been told so yet."""
        return self.state is State.RUNNING or (
            self.released and not self.destroyed and self.state is not State.DESTROYING
        )

    @property
    def has_pid_namespace(self) -> bool:
        """Whether all of its processes end with its init."""
        return self.launched is not None and self.launched.has_pid_namespace

    def adopt(self, child: Child, info: LaunchInfo, boot_id: str, *, records_status: bool) -> Launched:
        """Has its init; returns what a later containerizer must know of that. Secrets are only kept here."""
        self.init, self.channel = child.init, child.channel
        self.secret_environment = info.secret_environment
        self.launched = Launched(
            pid=child.init.pid,
            started=child.init.started,
            boot_id=boot_id,
            has_pid_namespace=Namespace.PID in info.clone_namespaces,
            records_status=records_status,
            environment=info.environment,
            working_directory=info.working_directory,
        )
        return self.launched

    def finish(self, termination: Termination) -> None:
        """Tells everybody who waits that all is over."""
        if not self.started.done():
            self._fail_start(self.failure or ContainerError(f"{self.container_id} was destroyed while it was launched"))
        self.ended.set_result(termination)

    def fail(self, error: Exception) -> None:
        """Tells everybody who waits that something of the container is left."""
        if not self.started.done():
            self._fail_start(error)
        self.ended.set_exception(error)
        self.ended.exception()  # Read, so that asyncio does not report an error that nobody waited for.

    def _fail_start(self, error: Exception) -> None:
        self.started.set_exception(error)
        self.started.exception()

    def renew(self) -> None:
        """Makes ready for another try to end the container."""
        if self.ended.done():
            self.ended = asyncio.get_running_loop().create_future()

    async def abandon(self) -> None:
        """Stops watching, and leaves the container as it is."""
        self.abandoned = True
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        if not self.ended.done():
            self.fail(ContainerError(f"{self.container_id} goes on, and its containerizer is closed"))
        self.release()

    def release(self) -> None:
        """Closes the descriptors."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.init is not None:
            self.init.close()
            self.init = None
