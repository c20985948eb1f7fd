"""Which container is connected to whom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.containerizer.base import ContainerIO
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.isolators.base import ContainerState, Isolator
from mesocosm.linux.descriptors import open_pipe
from mesocosm.statistics import Limitation
from mesocosm.switchboard.input import Input
from mesocosm.switchboard.keeper_client import KeeperClient, forget
from mesocosm.switchboard.session import Destroy, Session

if TYPE_CHECKING:
    from mesocosm.containerizer.base import Starting
    from mesocosm.containerizer.checkpoint import Checkpoints
    from mesocosm.launcher.client import LauncherProcess
    from mesocosm.launcher.info import LaunchInfo


class BusyError(ContainerError):
    """Somebody else types into the container at this moment."""


class Switchboard(Isolator):
    """The containers of one containerizer whose terminals and pipes somebody holds.

    It is no isolator that could be chosen, but it is asked where those are: as in Mesos (`io/switchboard`).
    """

    _launcher: LauncherProcess
    _checkpoints: Checkpoints

    def __init__(self) -> None:
        self._sessions: dict[ContainerID, Session] = {}
        self._keepers: dict[ContainerID, KeeperClient] = {}
        self._lost: dict[ContainerID, asyncio.Future[Limitation]] = {}
        self._typing: set[ContainerID] = set()

    def open_session(self, container_id: ContainerID, destroy: Destroy) -> Session | None:
        """A session with a container that is about to be launched; None if it has one already."""
        if container_id in self._sessions:
            return None
        session = self._sessions[container_id] = Session(container_id, destroy, self._forget)
        return session

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.container_id) is session:
            del self._sessions[session.container_id]

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are open."""
        return list(self._sessions.values())

    def use(self, launcher: LauncherProcess, checkpoints: Checkpoints) -> None:
        """Takes note of what keepers are forked from, and where the directories of the containers are."""
        self._launcher, self._checkpoints = launcher, checkpoints

    async def connect(self, starting: Starting) -> ContainerIO:
        """What the command is to have instead of the log's descriptors, which is the caller's.

        Raises MesocosmError or OSError.
        """
        if (session := self._sessions.get(starting.container_id)) is not None:
            return session.connect(starting)
        if starting.terminal is not None:
            try:
                await self._keep(starting, starting.terminal, starting.stdout)
            finally:
                os.close(starting.terminal)
        elif starting.config.interactive:
            return await self._keep_input(starting)
        return ContainerIO()

    async def _keep_input(self, starting: Starting) -> ContainerIO:
        stdin, held = open_pipe()
        try:
            await self._keep(starting, held, None)
        except BaseException:
            os.close(stdin)
            raise
        finally:
            os.close(held)
        return ContainerIO(stdin=stdin)

    async def _keep(self, starting: Starting, held: int, log: int | None) -> None:
        if sys.platform != "linux":
            raise UnsupportedError(
                f"{starting.container_id} asks for a terminal or an input", "on this system an agent has none"
            )
        directory = self._checkpoints.directory(starting.container_id)
        keeper = await KeeperClient.start(self._launcher, directory, starting.init.descriptor, held, log)
        self._watch(starting.container_id, keeper)

    def _watch(self, container_id: ContainerID, keeper: KeeperClient | None) -> None:
        """Has the container end where there is no keeper, or will not be one any more."""
        lost: asyncio.Future[Limitation] = asyncio.get_running_loop().create_future()
        self._lost[container_id] = lost
        if keeper is None:
            lost.set_result(_LOST)
            return
        self._keepers[container_id] = keeper

        def gone(said_so: asyncio.Future[bool]) -> None:
            if not said_so.cancelled() and not said_so.result() and not lost.done():
                lost.set_result(_LOST)

        keeper.gone.add_done_callback(gone)

    @contextlib.asynccontextmanager
    async def input(self, container_id: ContainerID) -> AsyncIterator[Input]:
        """Where to type into a running container, for one client at a time.

        Raises BusyError, ContainerError for one that takes no input, and OSError.
        """
        if container_id in self._typing:
            raise BusyError("Multiple input connections are not allowed")
        self._typing.add(container_id)
        try:
            if (session := self._sessions.get(container_id)) is not None:
                yield session.input
                return
            given = await self._kept_input(container_id)
            try:
                yield given
            finally:
                given.close()
        finally:
            self._typing.discard(container_id)

    async def attach(self, container_id: ContainerID) -> int | None:
        """A copy of the master of a terminal that is kept, which is the caller's. Raises ContainerError or OSError."""
        keeper = self._keepers.get(container_id)
        return None if keeper is None or not keeper.is_terminal else await keeper.attach()

    async def _kept_input(self, container_id: ContainerID) -> Input:
        keeper = self._keepers.get(container_id)
        if keeper is None:
            raise ContainerError(
                f"{container_id} takes no input", "that has to be asked for at its launch: by a tty_info, say"
            )
        held = await keeper.attach()
        if held is None:
            raise ContainerError(f"the input of {container_id} has ended")
        return Input(held, is_terminal=keeper.is_terminal, end=keeper.end)

    # As the isolators are asked.

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Finds the keepers of containers that run. A session has none, and has lost who used it."""
        for state in containers:
            has_terminal = state.config.tty_info is not None
            if (has_terminal or state.config.interactive) and not state.config.debug:
                directory = self._checkpoints.directory(state.container_id)
                self._watch(state.container_id, KeeperClient.find(directory, is_terminal=has_terminal))

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Has no session begun that nobody waits for."""
        if (session := self._sessions.get(container_id)) is not None:
            session.begin()
        return None

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Resolves when the keeper of the container is gone, which nobody but that could replace."""
        return self._lost.get(container_id)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Waits until all is logged that the terminal has said of a container whose processes are gone."""
        self._lost.pop(container_id, None)
        if (keeper := self._keepers.pop(container_id, None)) is not None:
            await keeper.wait()
            keeper.close()
        forget(self._checkpoints.directory(container_id))

    async def close(self) -> None:
        """Ends the connections. Keepers go on."""
        for keeper in self._keepers.values():
            keeper.close()
        self._keepers.clear()


_LOST = Limitation("REASON_IO_SWITCHBOARD_EXITED", "the process that keeps its terminal or input is gone")
