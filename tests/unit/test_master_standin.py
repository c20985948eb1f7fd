"""The master of the tests, held against what a real one said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.message import Message

from mesocosm.agent.authentication import Authenticator
from mesocosm.agent.http.actors import add_actor
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.server import Server
from mesocosm.api import internal
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox
from tests.master_standin import MasterStandIn
from tests.unit.exchange import messages, recorded_shapes, shape

OURS = (
    internal.SlaveRegisteredMessage,
    internal.PingSlaveMessage,
    internal.RunTaskMessage,
    internal.RunTaskGroupMessage,
    internal.StatusUpdateAcknowledgementMessage,
)


@pytest.fixture
def master() -> Iterator[MasterStandIn]:
    with MasterStandIn() as standin:
        yield standin


@asynccontextmanager
async def recorded_agent(master: MasterStandIn) -> AsyncIterator[list[Message]]:
    """Says what the recorded agent did until its task ran; what it receives meanwhile."""
    routes, inbox, received = Routes(), Inbox(), []
    server = Server(routes, Authenticator())
    await server.start()
    address = ActorAddress("slave(1)", *await server.listen("127.0.0.1", 0, None))
    for kind in OURS:
        inbox.receive(kind, lambda _, message: received.append(message))
    add_actor(routes, address.name, inbox, lambda: True)
    outbox = Outbox(address)
    target = ActorAddress.parse(f"master@{master.address}")
    for each in messages():
        if each.target == "master" and each.name.endswith(("RegisterSlaveMessage", "StatusUpdateMessage")):
            message = internal.parse(each.name, each.body)
            assert message is not None
            outbox.send(target, message)
    await outbox.flush()
    try:
        yield received
    finally:
        await outbox.close()
        await server.close()


async def test_it_says_what_a_real_master_says(master: MasterStandIn) -> None:
    async with recorded_agent(master) as received:
        await asyncio.to_thread(master.await_agent)
        original = next(each for each in messages() if each.name.endswith("RunTaskMessage"))
        task = internal.RunTaskMessage.FromString(original.body).task
        group = next(each for each in messages() if each.name.endswith("RunTaskGroupMessage"))
        grouped = internal.RunTaskGroupMessage.FromString(group.body)
        await asyncio.to_thread(master.run_task, task)
        await asyncio.to_thread(master.run_group, grouped.executor, grouped.task_group.tasks)
        assert {type(message) for message in received} == set(OURS)
        for message in received:
            assert shape(message) in recorded_shapes(type(message)), type(message)
        assert await asyncio.to_thread(master.await_state, "t1", "TASK_RUNNING")
