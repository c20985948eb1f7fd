"""Answers that go on: their format, their heartbeats, and clients that do not read them."""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from mesocosm.agent.authentication import Authenticator
from mesocosm.agent.http.negotiation import MediaTypes
from mesocosm.agent.http.reply import JSON, PROTOBUF, RECORDIO, Reply, RequestError
from mesocosm.agent.http.routes import Request, Route, Routes
from mesocosm.agent.http.server import Server
from mesocosm.agent.http.streams import Exchange, Records, with_heartbeats
from mesocosm.api import process_io, recordio
from mesocosm.api.v1.agent import Call, ProcessIO
from tests.unit import recorded

PIECE = bytes(1 << 16)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_a_record_is_as_mesos_writes_it() -> None:
    first = recordio.Decoder().feed(recorded.body("attach_output"))[0]
    assert process_io.data("STDOUT", b"tick\r\n", as_json=True) == recordio.encode(first)


@pytest.mark.parametrize("name", ["STDOUT", "STDERR"])
def test_protobuf_says_the_same(name: str) -> None:
    (record,) = recordio.Decoder().feed(process_io.data(name, b"\xff\n", as_json=False))
    message = ProcessIO.FromString(record)
    assert (message.type, ProcessIO.Data.Type.Name(message.data.type)) == (ProcessIO.DATA, name)
    assert message.data.data == b"\xff\n"


async def test_heartbeats_come_among_the_records() -> None:
    news = asyncio.Queue[bytes]()

    class Pieces:
        def __aiter__(self) -> Pieces:
            return self

        async def __anext__(self) -> bytes:
            if (piece := await news.get()) == b"":
                raise StopAsyncIteration
            return piece

    stream = with_heartbeats(Pieces(), 0.02, as_json=False)
    news.put_nowait(b"first")
    assert await anext(stream) == b"first"
    beat = ProcessIO.FromString(recordio.Decoder().feed(await anext(stream))[0])
    assert beat.control.type == ProcessIO.Control.HEARTBEAT
    assert beat.control.heartbeat.interval.nanoseconds == 20_000_000
    news.put_nowait(b"second")
    news.put_nowait(b"")
    assert [record async for record in stream if b"second" in record] == [b"second"]


async def test_the_last_call_of_a_request_is_whole() -> None:
    records = Records(chunks(recordio.encode(b'{"type": "GET_HEALTH"}'), b'22\n{"type": "GET_'), JSON)
    assert (await anext(records)).type == Call.GET_HEALTH
    with pytest.raises(RequestError) as refused:
        await anext(records)
    assert refused.value.reply.body == b"the stream ended within a record"


async def test_calls_follow_one_another_in_a_request() -> None:
    body = b"".join(recordio.encode(b'{"type": "%b"}' % kind) for kind in (b"GET_HEALTH", b"GET_FLAGS"))
    records = Records(chunks(body[:9], body[9:]), JSON)
    assert [call.type async for call in records] == [Call.GET_HEALTH, Call.GET_FLAGS]
    with pytest.raises(RequestError):
        await anext(Records(chunks(b"x\n"), JSON))


def test_the_answer_says_in_which_formats_it_comes() -> None:
    async def nothing() -> AsyncGenerator[bytes, None]:
        yield b""

    for media, as_json, headers in (
        (MediaTypes(JSON, RECORDIO, None, PROTOBUF), False, {"Message-Content-Type": PROTOBUF}),
        (MediaTypes(JSON, RECORDIO, None, JSON), True, {"Message-Content-Type": JSON}),
        (MediaTypes(JSON, JSON), True, {}),
        (MediaTypes(JSON, PROTOBUF), False, {}),
    ):
        exchange = Exchange(None, media, None)
        reply = exchange.reply(nothing())
        assert (exchange.as_json, reply.content_type, reply.headers) == (as_json, media.accept, headers)


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    """A server whose /x sends without an end, but not to a client that takes nothing for a moment."""

    async def endless() -> AsyncGenerator[bytes, None]:
        for _ in itertools.count():
            yield PIECE

    async def handle(_: Request) -> Reply:
        return Reply(stream=endless(), patience=0.2)

    routes = Routes()
    routes.add(Route("/x", handle, realm=None))
    served = Server(routes, Authenticator())
    await served.start()
    yield await served.listen("127.0.0.1", 0, None)
    await served.close()


@contextmanager
def asking(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A connection by which the endless was asked for, and nothing of it read."""
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.setblocking(False)
        yield connection


async def test_a_client_that_takes_nothing_is_cut(address: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mesocosm")
    with asking(address) as connection:
        poll = select.poll()
        poll.register(connection, 0)  # Of errors it tells unasked.
        assert await asyncio.to_thread(poll.poll, 20_000) == [(connection.fileno(), select.POLLERR | select.POLLHUP)]
    assert [record.getMessage() for record in caplog.records] == ["/x for 127.0.0.1 is cut: it takes nothing for 0.2 s"]


async def test_a_client_that_is_slow_is_not(address: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mesocosm")
    loop = asyncio.get_running_loop()
    with asking(address) as connection:
        for _ in range(20):
            await loop.sock_recv(connection, 1 << 16)
            await asyncio.sleep(0.05)
        assert caplog.records == []
