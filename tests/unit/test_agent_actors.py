"""Messages of libprocess to the agent, as requests to its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
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
from tests.unit.exchange import messages

AGENT = "slave(1)"
PING = f"/{AGENT}/mesos.internal.PingSlaveMessage"
SENDER = "slave-observer(1)@127.0.0.1:5060"


@dataclass
class Listening:
    """A server that has one actor, and what that was sent."""

    url: str
    socket: Path
    received: list[tuple[ActorAddress, Message]] = field(default_factory=list)
    is_ready: bool = True


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Listening]:
    routes, inbox = Routes(), Inbox()
    server = Server(routes, Authenticator())
    await server.start()
    host, port = await server.listen("127.0.0.1", 0, None)
    listening = Listening(f"http://{host}:{port}", tmp_path / "socket")
    await server.listen_locally(listening.socket)
    for kind in (internal.PingSlaveMessage, internal.RunTaskMessage):
        inbox.receive(kind, lambda sender, message: listening.received.append((sender, message)))
    add_actor(routes, AGENT, inbox, lambda: listening.is_ready)
    yield listening
    await server.close()


async def post(agent: Listening, path: str, headers: dict[str, str], *, local: bool = False) -> int:
    connector = aiohttp.UnixConnector(str(agent.socket)) if local else None
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(agent.url + path, headers=headers) as answer,
    ):
        return answer.status


async def test_messages_arrive_in_their_order(agent: Listening) -> None:
    outbox = Outbox(ActorAddress.parse(SENDER))
    target = ActorAddress(AGENT, "127.0.0.1", int(agent.url.rpartition(":")[2]))
    sent = [internal.parse(each.name, each.body) for each in messages() if each.target == "agent"]
    for message in sent:
        assert message is not None
        outbox.send(target, message)
    await outbox.flush()
    await outbox.close()
    wanted = [each for each in sent if isinstance(each, internal.PingSlaveMessage | internal.RunTaskMessage)]
    assert agent.received == [(ActorAddress.parse(SENDER), message) for message in wanted]


async def test_what_comes_before_the_recovery_is_dropped(agent: Listening) -> None:
    agent.is_ready = False
    assert await post(agent, PING, {"Libprocess-From": SENDER}) == 202
    assert agent.received == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PING, {}, 404),
        (f"/{AGENT}", {"Libprocess-From": SENDER}, 404),
        (f"{PING}/x", {"Libprocess-From": SENDER}, 404),
        (PING, {"Libprocess-From": "x"}, 400),
        (PING, {"Libprocess-From": "master@127.0.0.2:5050"}, 400),
        (f"/{AGENT}/mesos.internal.Nothing", {"Libprocess-From": SENDER}, 202),
        (PING, {"User-Agent": f"libprocess/{SENDER}"}, 202),
    ],
)
async def test_other_requests(agent: Listening, path: str, headers: dict[str, str], status: int) -> None:
    assert await post(agent, path, headers) == status


async def test_nobody_is_a_master_by_the_unix_socket(agent: Listening) -> None:
    """It has no address that a claim could be held against, and executors may have one."""
    assert await post(agent, PING, {"Libprocess-From": SENDER}, local=True) == 400
    assert agent.received == []
