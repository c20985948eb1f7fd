"""The agent's bond with the master that leads: registered with it, heard of by it, and obeying it alone.

For each master that is detected there is a session: the agent authenticates, registers until it is answered, and then
expects pings. Where these stay away, or say that the master has lost the agent, the master is detected anew. Source:
`Slave::detected`, `doReliableRegistration`, `registered`, `reregistered` and `ping` in slave.cpp.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import Message

from mesocosm.api import internal, v1
from mesocosm.errors import MasterError
from mesocosm.libprocess.address import ActorAddress, host_name
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox
from mesocosm.master import registration
from mesocosm.master.base import Tasks
from mesocosm.master.detector import Detector

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF = 60.0
"""Seconds between attempts to register, at most (REGISTER_RETRY_INTERVAL_MAX)."""
_PING_TIMEOUT = 75.0
"""Seconds without a ping, for a master that says nothing of it (DEFAULT_MASTER_PING_TIMEOUT)."""
_FAREWELL = 2.0
"""Seconds that a last message has."""


class Authenticatee(Protocol):
    """Proves who the agent is."""

    async def authenticate(self, master: ActorAddress) -> None:
        """Returns when the master knows. Raises MasterError."""


@dataclass(slots=True)
class _Session:
    """What is between the agent and one master."""

    master: ActorAddress
    ping_timeout: float = _PING_TIMEOUT
    is_registered: bool = False
    is_disowned: bool = False
    """The master says that it has lost the agent."""
    failure: Exception | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where any of the above changes, and by each ping."""


class MasterLink:
    """Keeps the agent registered with the master that leads."""

    def __init__(
        self,
        slave: internal.SlaveInfo,
        tasks: Tasks,
        detector: Detector,
        inbox: Inbox,
        outbox: Outbox,
        *,
        backoff: float,
        authenticatee: Authenticatee | None = None,
    ) -> None:
        """`slave` is what the agent is now, with the id that it has, if it has one; `backoff` is in seconds.

        `inbox` takes what is sent to the agent, and `outbox` sends in its name.
        """
        self.slave = slave
        self.master_hostname: str | None = None
        """What the host of the master is called that the agent is registered with, once that is known."""
        self._tasks = tasks
        self._detector = detector
        self._outbox = outbox
        self._backoff = backoff
        self._authenticatee = authenticatee
        self._handlers = tasks.handlers()
        self._capabilities = registration.capabilities(self._handlers)
        self._session: _Session | None = None
        self._shutdown: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        inbox.receive(internal.SlaveRegisteredMessage, self._registered)
        inbox.receive(internal.SlaveReregisteredMessage, self._registered)
        inbox.receive(internal.PingSlaveMessage, self._pinged)
        inbox.receive(internal.ShutdownMessage, self._shut_down)
        for kind, handle in self._handlers.items():
            inbox.receive(kind, self._obeying(handle))

    @property
    def master(self) -> ActorAddress | None:
        """The master that the agent is registered with."""
        return self._session.master if self._session is not None and self._session.is_registered else None

    async def run(self) -> str:
        """Follows the masters until one has the agent shut down; returns why. Raises MasterError and OSError."""
        leader: ActorAddress | None = None
        logger.info("looking for the leading master")
        while True:
            detection = asyncio.create_task(self._detector.detect(leader))
            session = None if leader is None else asyncio.create_task(self._serve(leader))
            waiting: list[asyncio.Future[Any]] = [self._shutdown, detection, *([] if session is None else [session])]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._shutdown.done():
                    return self._shutdown.result()
                if session is not None and session.done():
                    session.result()
                    leader = None  # And is detected again at once, if it still leads.
                else:
                    leader = detection.result()
                    logger.info("no master leads" if leader is None else f"the leading master is {leader}")
            finally:
                await _cancel(detection, session)

    async def unregister(self) -> None:
        """Tells the master that the agent, with all that it runs, ends for good."""
        if (master := self.master) is not None:
            self._outbox.send(master, internal.UnregisterSlaveMessage(slave_id=self.slave.id))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._outbox.flush(), _FAREWELL)

    async def close(self) -> None:
        """Ends what is between the agent and masters, without a word to them."""
        await self._outbox.close()
        await self._detector.close()

    # A session.

    async def _serve(self, master: ActorAddress) -> None:
        """Is registered with a master until it seems to be lost. Raises MasterError and OSError."""
        session = self._session = _Session(master)
        try:
            await asyncio.sleep(random.uniform(0, self._backoff))  # Not every agent of a cluster at once.
            if self._authenticatee is not None:
                await self._authenticatee.authenticate(master)
            await self._register(session)
            await self._hear(session)
        finally:
            self._session = self.master_hostname = None
            self._tasks.disconnect()

    async def _register(self, session: _Session) -> None:
        """Asks until the master answers, with random pauses whose limit doubles."""
        limit = self._backoff * 2
        while not session.is_registered:
            self._outbox.send(session.master, self._registration())
            limit = min(limit, _LONGEST_BACKOFF)
            await _news(session, lambda: session.is_registered, random.uniform(0, limit))
            limit *= 2

    async def _hear(self, session: _Session) -> None:
        """Returns when the master seems to be lost, or has lost the agent."""
        self.master_hostname = await host_name(session.master.ip)
        while not session.is_disowned:
            session.news.clear()
            if not await _news(session, session.news.is_set, session.ping_timeout):
                logger.warning("no ping from %s for %g s", session.master, session.ping_timeout)
                return
        logger.warning("%s has lost the agent, which registers again", session.master)

    def _registration(self) -> Message:
        common: dict[str, Any] = {
            "slave": self.slave,
            "version": registration.VERSION,
            "agent_capabilities": self._capabilities,
            "resource_version_uuid": v1.UUID(value=self._tasks.resource_version),
        }
        known = self._tasks.reregistration()
        if not self.slave.HasField("id"):
            return internal.RegisterSlaveMessage(**common, checkpointed_resources=known.checkpointed_resources)
        return internal.ReregisterSlaveMessage(
            **common,
            checkpointed_resources=known.checkpointed_resources,
            frameworks=known.frameworks,
            executor_infos=known.executor_infos,
            tasks=known.tasks,
            completed_frameworks=known.completed_frameworks,
        )

    # What masters say.

    def _registered(self, sender: ActorAddress, message: Message) -> None:
        assert isinstance(message, internal.SlaveRegisteredMessage | internal.SlaveReregisteredMessage)
        if (session := self._session_with(sender, message)) is None:
            return
        if self.slave.HasField("id") and self.slave.id != message.slave_id:
            session.failure = MasterError(
                f"{sender} calls the agent {message.slave_id.value}, and it is {self.slave.id.value}"
            )
            session.news.set()
            return
        session.ping_timeout = message.connection.total_ping_timeout_seconds or _PING_TIMEOUT
        if not session.is_registered:
            self._connect(session, message.slave_id)
        self._update(session)
        if isinstance(message, internal.SlaveReregisteredMessage):
            for reconciliation in message.reconciliations:
                self._handlers[internal.ReconcileTasksMessage](reconciliation)

    def _connect(self, session: _Session, agent_id: v1.AgentID) -> None:
        """The agent is registered: messages are obeyed from now on."""
        again = " again" if self.slave.HasField("id") else ""
        logger.info("registered%s with %s as agent %s", again, session.master, agent_id.value)
        self.slave.id.CopyFrom(agent_id)
        session.is_registered = True
        try:
            self._tasks.connect(self.slave, lambda message: self._outbox.send(session.master, message))
        except OSError as error:
            session.failure = error
        session.news.set()

    def _update(self, session: _Session) -> None:
        """Tells the operations and the version of the resources, as agents with resource providers do."""
        if registration.RESOURCE_PROVIDER not in self._capabilities:
            return
        version = v1.UUID(value=self._tasks.resource_version)
        self._outbox.send(
            session.master,
            internal.UpdateSlaveMessage(
                slave_id=self.slave.id,
                update_oversubscribed_resources=False,
                operations={"operations": self._tasks.reregistration().operations},
                resource_version_uuid=version,
                resource_providers={},
            ),
        )

    def _pinged(self, sender: ActorAddress, message: Message) -> None:
        """Answers, as another actor of the master's process asks."""
        assert isinstance(message, internal.PingSlaveMessage)
        session = self._session
        if session is None or sender.authority != session.master.authority:
            logger.warning("a ping of %s, which is not the leading master, is not answered", sender)
            return
        self._outbox.send(sender, internal.PongSlaveMessage())
        session.is_disowned = session.is_registered and not message.connected
        session.news.set()

    def _shut_down(self, sender: ActorAddress, message: Message) -> None:
        assert isinstance(message, internal.ShutdownMessage)
        if self._session_with(sender, message) is not None and not self._shutdown.done():
            self._shutdown.set_result(message.message)

    def _obeying(self, handle: Callable[[Any], None]) -> Callable[[ActorAddress, Message], None]:
        def receive(sender: ActorAddress, message: Message) -> None:
            session = self._session_with(sender, message)
            if session is not None and session.is_registered:
                handle(message)

        return receive

    def _session_with(self, sender: ActorAddress, message: Message) -> _Session | None:
        """The session, if it is with the sender. Nobody else is obeyed."""
        if self._session is not None and self._session.master == sender:
            return self._session
        logger.warning("%s from %s, which is not the leading master, is not obeyed", internal.name_of(message), sender)
        return None


async def _news(session: _Session, is_there: Callable[[], bool], seconds: float) -> bool:
    """Whether it is there before so many seconds have passed. Raises what the session failed for."""
    try:
        async with asyncio.timeout(seconds):
            while not is_there() and session.failure is None:
                session.news.clear()
                await session.news.wait()
    except TimeoutError:
        return False
    if session.failure is not None:
        raise session.failure
    return True


async def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Ends those that have not ended."""
    for task in tasks:
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
