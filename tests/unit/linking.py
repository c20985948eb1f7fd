"""An agent that is nothing but its link to a master, for tests of that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message

from mesocosm.agent.authentication import Authenticator
from mesocosm.agent.http.actors import add_actor
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.server import Server
from mesocosm.api import internal, v1
from mesocosm.api.value_text import parse_attributes, parse_resources
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox
from mesocosm.master.authentication import CramMd5, Patience
from mesocosm.master.base import Reregistration, Send
from mesocosm.master.detector import Detector, create_detector
from mesocosm.master.link import MasterLink
from mesocosm.master.registration import slave_info

RESOURCES = "cpus:2;mem:4096;disk:10000;ports:[31000-32000]"
BACKOFF = 0.02
PATIENCE = Patience(5, 60, 1)


class RecordedTasks:
    """Tasks that do nothing but keep what is asked of them, and who the agent is."""

    def __init__(self) -> None:
        self.slave: internal.SlaveInfo | None = None
        self.resource_version = os.urandom(16)
        self.asked: list[Message] = []
        self.events: list[str] = []
        self.known = Reregistration()
        self.send: Send | None = None

    def handlers(self) -> Mapping[type[Message], Callable[[Any], None]]:
        kinds = (
            internal.RunTaskMessage,
            internal.KillTaskMessage,
            internal.ReconcileTasksMessage,
            internal.ApplyOperationMessage,
            internal.DrainSlaveMessage,
        )
        return dict.fromkeys(kinds, self.asked.append)

    def connect(self, slave: internal.SlaveInfo, send: Send) -> None:
        self.slave = internal.SlaveInfo()
        self.slave.CopyFrom(slave)
        self.send = send
        self.events.append("connected")

    def disconnect(self) -> None:
        if self.send is not None:
            self.send = None
            self.events.append("disconnected")

    def reregistration(self) -> Reregistration:
        return self.known

    def resources(self) -> tuple[v1.Resource, ...]:
        return ()

    async def shut_down(self) -> None:
        self.events.append("shut down")


class LinkedAgent:
    """One agent, on a port of its own. `running` is the link at work."""

    def __init__(self, link: MasterLink, tasks: RecordedTasks, address: ActorAddress) -> None:
        self.link = link
        self.tasks = tasks
        self.address = address
        self.running = asyncio.create_task(link.run())

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns when it is so."""
        async with asyncio.timeout(30):
            while not is_so():  # noqa: ASYNC110 - A link has no event for what a test asks.
                await asyncio.sleep(0.005)


@asynccontextmanager
async def linked(
    master: str | Detector,
    tasks: RecordedTasks,
    *,
    credential: tuple[str, str] | None = None,
    patience: Patience = PATIENCE,
    port: int = 0,
) -> AsyncIterator[LinkedAgent]:
    """An agent that looks for its master until the block ends."""
    routes, inbox = Routes(), Inbox()
    server = Server(routes, Authenticator())
    await server.start()
    address = ActorAddress("slave(1)", *await server.listen("127.0.0.1", port, None))
    add_actor(routes, address.name, inbox, lambda: True)

    def listen(name: str, own: Inbox) -> Callable[[], None]:
        add_actor(routes, name, own, lambda: True)
        return lambda: routes.remove(f"/{name}")

    slave = slave_info("127.0.0.1", address.port, parse_resources(RESOURCES), parse_attributes("rack:r1;zone:z"))
    if tasks.slave is not None:
        slave.id.CopyFrom(tasks.slave.id)
    link = MasterLink(
        slave,
        tasks,
        create_detector(master, 10) if isinstance(master, str) else master,
        inbox,
        Outbox(address),
        backoff=BACKOFF,
        authenticatee=None if credential is None else CramMd5(*credential, address, listen, patience),
    )
    agent = LinkedAgent(link, tasks, address)
    try:
        yield agent
    finally:
        agent.running.cancel()
        await asyncio.wait([agent.running])
        await link.close()
        await server.close()
