"""The server of the agent, where what it serves fails, or who is served does."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import pytest
from aiohttp import ClientConnectionResetError

from mesocosm.agent.authentication import Authenticator
from mesocosm.agent.http import server
from mesocosm.agent.http.reply import Reply, RequestError, bad_request
from mesocosm.agent.http.routes import Handler, Request, Route, Routes

Exchange = Callable[[Handler, bytes], Awaitable[bytes]]


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    """Sends bytes to a server whose only endpoint, /x, a handler has; what it says until it closes the connection."""
    routes = Routes()
    served = server.Server(routes, Authenticator())
    await served.start()
    host, port = await served.listen("127.0.0.1", 0, None)

    async def ask(handler: Handler, data: bytes) -> bytes:
        routes.add(Route("/x", handler, realm=None, methods=frozenset({"GET", "POST"})))
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return answer

    yield ask
    await served.close()


def request(method: str = "GET", body: bytes = b"", *, of: int | None = None) -> bytes:
    """A request after whose answer the connection ends; only part of a body `of` so many bytes, if that is more."""
    length = len(body) if of is None else of
    return b"%s /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        method.encode(),
        length,
        body,
    )


async def echo(asked: Request) -> Reply:
    return Reply(body=await asked.read())


def test_an_agent_that_only_listens_is_asked_again() -> None:
    """By clients that wait for its start, and take a 404 for an answer."""
    routes = Routes()
    for status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.NOT_FOUND):
        with pytest.raises(RequestError) as refused:
            routes.find("/api/v1", "POST")
        assert refused.value.reply.status is status
        routes.add(Route("/x", echo, realm=None))


async def test_a_body_that_does_not_come_is_not_waited_for(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.05)
    answer = await exchange(echo, request("POST", b"half", of=8))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"nothing of the body came for 0.05 s")


async def test_a_defect_is_500_and_logged(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Request) -> Reply:
        raise ZeroDivisionError("this is wrong")

    answer = await exchange(fail, request())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"wrong" not in answer
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", "GET /x failed")]
    assert "this is wrong" in caplog.text


async def test_what_is_no_http_is_logged_as_a_detail(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mesocosm")
    assert b" 400 " in await exchange(echo, b"GET /x HTTP/1.1\r\nno header\r\n\r\n")
    records = [record for record in caplog.records if record.name == server.logger.name]
    assert [(record.levelname, record.exc_info) for record in records] == [("DEBUG", None)]
    assert "Error handling request from 127.0.0.1: 400, message: Invalid header" in records[0].getMessage()


async def test_a_client_that_goes_away_is_no_error(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield b"the beginning"
        raise ClientConnectionResetError("Cannot write to closing transport")

    async def answer(_: Request) -> Reply:
        return Reply(stream=stream())

    assert b"the beginning" in await exchange(answer, request())
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_what_is_wrong_is_not_said_at_any_length(exchange: Exchange) -> None:
    async def refuse(_: Request) -> Reply:
        raise bad_request("x" * (1 << 20))

    head, _, body = (await exchange(refuse, request())).partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert body == b"x" * 4096 + b"..."


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system decides")
def test_a_client_whose_machine_is_gone_is_noticed() -> None:
    """Connections have the options of the socket that they came to."""
    with server._bind("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            connection, _ = listening.accept()
            with connection:
                assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
