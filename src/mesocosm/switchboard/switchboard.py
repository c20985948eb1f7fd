"""Which container is connected to whom."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mesocosm.container import ContainerID
from mesocosm.containerizer.base import ContainerIO
from mesocosm.errors import ContainerError
from mesocosm.isolators.base import Isolator
from mesocosm.switchboard.input import Input
from mesocosm.switchboard.session import Destroy, Session

if TYPE_CHECKING:
    from mesocosm.containerizer.base import Starting


class BusyError(ContainerError):
    """Somebody else types into the container at this moment."""


class Switchboard(Isolator):
    """The containers of one containerizer whose terminals and pipes somebody holds.

    It is no isolator that could be chosen, but it is asked where those are: as in Mesos (`io/switchboard`).
    """

    def __init__(self) -> None:
        self._sessions: dict[ContainerID, Session] = {}
        self._terminals: dict[ContainerID, int] = {}
        self._typing: set[ContainerID] = set()

    def open_session(self, container_id: ContainerID, destroy: Destroy) -> Session | None:
        """For a container that is about to be launched; None if it is one already."""
        if container_id in self._sessions:
            return None
        session = self._sessions[container_id] = Session(container_id, destroy, self._sessions.pop)
        return session

    @property
    def sessions(self) -> list[Session]:
        """Those that are open."""
        return list(self._sessions.values())

    async def connect(self, starting: Starting) -> ContainerIO:
        """What the command is to have instead of the log's descriptors, which is the caller's. Raises OSError."""
        if (session := self._sessions.get(starting.container_id)) is not None:
            return session.connect(starting)
        if starting.terminal is not None:
            self._terminals[starting.container_id] = starting.terminal
        return ContainerIO()

    @contextlib.asynccontextmanager
    async def input(self, container_id: ContainerID) -> AsyncIterator[Input]:
        """What is typed into a running container goes there, from one at a time.

        Raises BusyError, ContainerError for one that takes no input, and OSError.
        """
        if container_id in self._typing:
            raise BusyError("Multiple input connections are not allowed")
        session = self._sessions.get(container_id)
        if session is None:
            raise ContainerError(
                f"{container_id} takes no input", "it has to be asked for at its launch: with a tty_info, say"
            )
        self._typing.add(container_id)
        try:
            yield session.input
        finally:
            self._typing.discard(container_id)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Lets go of the terminal of a container whose processes are gone."""
        if (terminal := self._terminals.pop(container_id, None)) is not None:
            os.close(terminal)
