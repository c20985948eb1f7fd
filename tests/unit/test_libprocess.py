"""Messages of libprocess: those that a real cluster exchanged, and what a peer of ours receives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.api import internal
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox, sender_of
from mesocosm.libprocess.outbox import Outbox
from tests.unit.exchange import Recorded, messages

AGENT = ActorAddress("slave(1)", "127.0.0.1", 5061)
RECORDED = messages()


def test_the_recording_is_read() -> None:
    assert len(RECORDED) > 80
    assert {recorded.target for recorded in RECORDED} == {"agent", "master"}


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name.rpartition(".")[2])
def test_recorded_messages_are_known_to_the_last_byte(recorded: Recorded) -> None:
    message = internal.parse(recorded.name, recorded.body)
    assert message is not None
    assert unknown(message) == []
    assert message.SerializeToString() == recorded.body
    assert internal.name_of(message) == recorded.name


def unknown(message: Message) -> list[str]:
    """The messages in it that have fields which ours have not."""
    found = [message.DESCRIPTOR.full_name] if len(UnknownFieldSet(message)) else []
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else [value]:
                found += unknown(part)
    return found


@pytest.mark.parametrize("name", ["mesos.internal.Nothing", "mesos.v1.TaskInfo", "", "mesos.internal."])
def test_messages_that_are_not_known(name: str) -> None:
    assert internal.parse(name, b"") is None


@given(st.binary())
def test_garbage_is_no_message(data: bytes) -> None:
    """Nor anything else that would end the agent."""
    with contextlib.suppress(ValueError):
        assert internal.parse("mesos.internal.RunTaskMessage", data) is not None


@pytest.mark.parametrize("text", ["slave(1)@127.0.0.1:5061", "@0.0.0.0:0", "master@[::1]:5050"])
def test_addresses(text: str) -> None:
    assert str(ActorAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "master", "master@localhost:5050", "m@1.2.3.4", "m@1.2.3.4:x", "m@1.2.3.4:65536", "m/x@1.2.3.4:5"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        ActorAddress.parse(text)


def test_who_sent_a_request() -> None:
    for recorded in RECORDED:
        assert str(sender_of(recorded.headers)) == recorded.headers["Libprocess-From"]
    assert sender_of({"User-Agent": f"libprocess/{AGENT}"}) == AGENT
    assert sender_of({"User-Agent": "curl/8"}) is None
    with pytest.raises(ValueError):
        sender_of({"Libprocess-From": "me"})


def test_an_inbox_hands_on_what_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    inbox, received = Inbox(), []
    inbox.receive(internal.PingSlaveMessage, lambda sender, message: received.append((sender, message)))
    name, ping = "mesos.internal.PingSlaveMessage", internal.PingSlaveMessage(connected=True)
    body = ping.SerializeToString()
    assert inbox.deliver(AGENT, "::ffff:127.0.0.1", name, body) is HTTPStatus.ACCEPTED
    assert inbox.deliver(AGENT, "127.0.0.2", name, body) is HTTPStatus.BAD_REQUEST
    assert inbox.deliver(AGENT, None, "mesos.internal.ShutdownMessage", b"") is HTTPStatus.ACCEPTED
    assert inbox.deliver(AGENT, None, name, b"\xff") is HTTPStatus.ACCEPTED
    assert received == [(AGENT, ping)]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["a", str(AGENT), "from"]


@asynccontextmanager
async def peer(
    status: HTTPStatus = HTTPStatus.ACCEPTED, headers: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[ActorAddress, list[Any]]]:
    """A process that listens, and what it received: connection, path, headers and body."""
    received: list[Any] = []

    async def serve(request: web.BaseRequest) -> web.Response:
        received.append((id(request.transport), request.path, request.headers.copy(), await request.read()))
        return web.Response(status=status, headers=headers)

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield ActorAddress("master", *runner.addresses[0]), received
    finally:
        await runner.cleanup()


async def test_an_outbox_keeps_the_order_on_one_connection() -> None:
    outbox = Outbox(AGENT)
    async with peer() as (master, received):
        pings = [internal.PingSlaveMessage(connected=bool(number % 3)) for number in range(50)]
        for ping in pings:
            outbox.send(master, ping)
        outbox.send(master, internal.PongSlaveMessage())
        await outbox.flush()
        assert [body for *_, body in received] == [ping.SerializeToString() for ping in pings] + [b""]
        assert len({connection for connection, *_ in received}) == 1
        _, path, headers, _ = received[0]
        assert path == "/master/mesos.internal.PingSlaveMessage"
        assert headers["Libprocess-From"] == str(AGENT)
        assert headers["User-Agent"] == f"libprocess/{AGENT}"
        await outbox.close()


async def test_an_outbox_tells_who_is_lost_and_goes_on() -> None:
    lost: list[str] = []
    outbox = Outbox(AGENT, lost.append)
    async with peer() as (master, _):
        pass
    outbox.send(master, internal.PongSlaveMessage())
    outbox.send(master, internal.PongSlaveMessage())
    outbox.send(ActorAddress.parse("@0.0.0.0:0"), internal.PongSlaveMessage())
    await outbox.flush()
    assert lost == [master.authority]
    async with peer() as (other, received):
        outbox.send(other, internal.PongSlaveMessage())
        await outbox.flush()
        assert len(received) == 1
        await outbox.close()


async def test_an_outbox_sends_nothing_where_an_answer_points() -> None:
    """Else an executor could have its agent say to others, in the agent's name, what it would not say."""
    async with peer() as (victim, received):
        elsewhere = f"http://{victim.authority}/master/mesos.internal.UnregisterSlaveMessage"
        async with peer(HTTPStatus.TEMPORARY_REDIRECT, {"Location": elsewhere}) as (executor, asked):
            outbox = Outbox(AGENT)
            outbox.send(executor, internal.PongSlaveMessage())
            await outbox.flush()
            await outbox.close()
            assert (len(asked), received) == (1, [])


async def test_those_that_do_not_answer_keep_no_other_waiting() -> None:
    """Whoever sends from many ports would have the agent wait for an answer at each of them."""
    outbox = Outbox(AGENT)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(100):
            silent = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
            await stack.enter_async_context(silent)
            outbox.send(ActorAddress("executor", *silent.sockets[0].getsockname()), internal.PongSlaveMessage())
        reached = asyncio.Event()
        another = await asyncio.start_server(lambda reader, writer: reached.set(), "127.0.0.1", 0)
        await stack.enter_async_context(another)
        outbox.send(ActorAddress("executor", *another.sockets[0].getsockname()), internal.PongSlaveMessage())
        async with asyncio.timeout(20):
            await reached.wait()
        await outbox.close()


async def test_an_outbox_reads_no_endless_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()

    endless = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with endless:
        outbox = Outbox(AGENT)
        outbox.send(ActorAddress("executor", *endless.sockets[0].getsockname()), internal.PongSlaveMessage())
        await outbox.flush()
        await outbox.close()


async def test_an_outbox_is_closed_while_it_waits() -> None:
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(0), "127.0.0.1", 0)
    outbox = Outbox(AGENT)
    outbox.send(ActorAddress("master", *silent.sockets[0].getsockname()), internal.PongSlaveMessage())
    await asyncio.sleep(0)
    await outbox.close()
    silent.close()
