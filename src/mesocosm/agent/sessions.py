"""Sessions: containers that somebody uses by a connection to the agent, and that end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mesocosm.concurrency import Work, together
from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.containerizer.base import Containerizer, LaunchResult
from mesocosm.errors import ContainerError
from mesocosm.switchboard.session import Session
from mesocosm.switchboard.switchboard import Switchboard

Launch = Callable[[ContainerID, ContainerConfig], Awaitable[LaunchResult]]


class Sessions:
    """Those of one agent, whose containers are launched by `launch`."""

    def __init__(self, switchboard: Switchboard, containerizer: Containerizer, launch: Launch) -> None:
        self._switchboard = switchboard
        self._containerizer = containerizer
        self._launch = launch
        self._work = Work()

    async def open(self, container_id: ContainerID, config: ContainerConfig) -> Session | None:
        """Launches a container, and connects the caller to it, who then closes that; None if there is one already.

        Raises MesocosmError, OSError or ExceptionGroup, and has left nothing then.
        """
        session = self._switchboard.open_session(container_id, self._containerizer.destroy)
        if session is None:
            return None
        opening = self._work.spawn(self._open(session, config))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            session.abandon()
            self._work.spawn(_close(session, opening))
            raise

    async def _open(self, session: Session, config: ContainerConfig) -> Session | None:
        try:
            result = await self._launch(session.container_id, config)
            if result is LaunchResult.NOT_SUPPORTED:
                raise ContainerError("The provided ContainerInfo is not supported")
        except BaseException:
            session.discard()
            raise
        if result is LaunchResult.ALREADY_LAUNCHED:
            session.discard()
            return None
        session.end_with(self._work.spawn(self._containerizer.wait(session.container_id)))
        return session

    async def close(self, session: Session) -> None:
        """Ends one, and gives all back, also if the caller is cancelled meanwhile."""
        await self._work.finish(session.close())

    async def close_all(self) -> None:
        """Ends those that are open: nobody will be connected to them any more."""
        await together(session.close() for session in self._switchboard.sessions)
        await self._work.wait()


async def _close(session: Session, opening: asyncio.Task[Session | None]) -> None:
    """Ends one that nobody waited for, however far its launch has come: some take long, or for ever."""
    await session.close()
    await asyncio.wait([opening])
    if opening.exception() is None and opening.result() is not None:
        await session.close()
