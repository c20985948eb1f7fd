"""A terminal in a container, for the page, by a WebSocket: a session, or the terminal that the container has itself.

A browser sends no name and no secret with a WebSocket. So the page asks for it first, like for all else, and is given a
ticket, which is good for one connection, and for seconds. It is shown among the subprotocols: addresses end up in logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated

import msgspec

from mesocosm.agent.agent import Agent
from mesocosm.agent.http.negotiation import essence
from mesocosm.agent.http.origin import check_origin
from mesocosm.agent.http.reply import JSON, Reply, RequestError, bad_request, json_reply
from mesocosm.agent.http.routes import Request
from mesocosm.agent.http.sessions import SessionCalls
from mesocosm.agent.http.websocket import Conversation, WebSocket
from mesocosm.api import validation
from mesocosm.api.json import from_json, loads
from mesocosm.api.v1.agent import Call
from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import MesocosmError
from mesocosm.switchboard.follow import Follow
from mesocosm.switchboard.input import Input
from mesocosm.switchboard.session import Session
from mesocosm.switchboard.switchboard import BusyError

PROTOCOL = "mesocosm.terminal"
_LIFETIME = 30.0
"""Seconds in which a ticket has to be shown."""
_MOST_TICKETS = 1000
"""At a time. Each is a few kilobytes of what was asked for."""


class _Size(msgspec.Struct):
    """The only text that a client sends: its window has another size."""

    rows: Annotated[int, msgspec.Meta(ge=1)]
    columns: Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class _Ticket:
    talk: Callable[[WebSocket], Awaitable[None]]
    end: float


class Terminals:
    """The handlers, of one agent. Bytes are what is typed and shown; texts are JSON about both."""

    def __init__(self, agent: Agent, sessions: SessionCalls) -> None:
        self._agent = agent
        self._sessions = sessions
        self._tickets: dict[str, _Ticket] = {}

    async def prepare(self, request: Request) -> Reply:
        """Takes a call in JSON, and gives a ticket for it. Raises RequestError.

        LAUNCH_NESTED_CONTAINER_SESSION is for a new terminal, ATTACH_CONTAINER_OUTPUT for that which the container has.
        """
        if request.executor is not None:
            raise RequestError(HTTPStatus.FORBIDDEN, "a terminal is not for executors")
        if essence(request.headers.get("Content-Type", "")) != JSON:
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Expecting 'Content-Type' of {JSON}")
        talk = self._asked(_call(await request.read()), request.principal)
        self._tickets = {name: ticket for name, ticket in self._tickets.items() if ticket.end > time.monotonic()}
        if len(self._tickets) >= _MOST_TICKETS:
            raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, "too many terminals wait to be opened")
        name = secrets.token_urlsafe(32)
        self._tickets[name] = _Ticket(talk, time.monotonic() + _LIFETIME)
        return json_reply({"ticket": name})

    async def connect(self, request: Request) -> Reply:
        """Opens the terminal of a ticket, which is worth nothing from then on. Raises RequestError: 403."""
        check_origin(request.headers, (), is_known=True)
        offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        found = [self._tickets.pop(name) for name in offered if name in self._tickets]
        if PROTOCOL not in offered or len(found) != 1 or found[0].end <= time.monotonic():
            raise RequestError(HTTPStatus.FORBIDDEN, "ask for a ticket at /terminal, and show it at once")
        return Reply(conversation=Conversation(PROTOCOL, found[0].talk))

    def _asked(self, call: Call, principal: str | None) -> Callable[[WebSocket], Awaitable[None]]:
        """What is said by the WebSocket of a call. Raises RequestError."""
        if call.type == Call.ATTACH_CONTAINER_OUTPUT:
            return partial(self._attach, self._sessions.terminal(call.attach_container_output, principal))
        container_id, config = self._sessions.asked(call, principal)
        if config.tty_info is None:
            raise bad_request("a terminal has a size: container.tty_info is missing")
        return partial(self._open, container_id, config)

    async def _attach(self, container_id: ContainerID, socket: WebSocket) -> None:
        """Shows what comes from then on. The container goes on when the client leaves."""
        with contextlib.suppress(ConnectionError):
            try:
                follow = await self._agent.outputs.attach(container_id, {"stdout": bytes})
            except MesocosmError as error:
                await _tell(socket, error=str(error))
                return
            try:
                async with self._agent.switchboard.input(container_id) as given:
                    await _first(self._show_attached(container_id, follow, socket), _type(given, socket))
            except (MesocosmError, OSError) as error:
                if isinstance(error, ConnectionError):
                    raise
                await _tell(socket, error=str(error))
            finally:
                follow.close()

    async def _show_attached(self, container_id: ContainerID, follow: Follow, socket: WebSocket) -> None:
        async for piece in follow:
            await socket.send(piece)
        termination = await self._agent.wait(container_id)
        await _tell(socket, exit_status=termination.exit_status)

    async def _open(self, container_id: ContainerID, config: ContainerConfig, socket: WebSocket) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                session = await self._sessions.open(container_id, config)
            except RequestError as error:
                await _tell(socket, error=str(error))
                return
            if session is None:
                await _tell(socket, error=f"there is a container {container_id} already")
                return
            try:
                async with self._agent.switchboard.input(container_id) as given:
                    await _first(_show(session, socket), _type(given, socket))
            except BusyError as error:
                await _tell(socket, error=str(error))
            finally:
                await self._sessions.close(session, keep=False)  # What it wrote was shown.


def _call(body: bytes) -> Call:
    """Raises RequestError for what is none, or another one."""
    try:
        call = from_json(loads(body), Call)
    except ValueError as error:
        raise bad_request(str(error)) from None
    if (reason := validation.validate(call)) is not None:
        raise bad_request(f"Failed to validate agent::Call: {reason}")
    if call.type not in (Call.LAUNCH_NESTED_CONTAINER_SESSION, Call.ATTACH_CONTAINER_OUTPUT):
        raise bad_request("Expecting a LAUNCH_NESTED_CONTAINER_SESSION or an ATTACH_CONTAINER_OUTPUT")
    return call


async def _first(*steps: Awaitable[None]) -> None:
    """Returns when one of them has ended, and the others are cancelled. Raises what it raised."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _show(session: Session, socket: WebSocket) -> None:
    """Sends what the terminal shows, as fast as the client takes it, and how the command has ended."""
    while (chunk := await session.read()) is not None:
        await socket.send(chunk.data)
    termination = await session.ended()
    await _tell(socket, exit_status=None if termination is None else termination.exit_status)


async def _type(given: Input, socket: WebSocket) -> None:
    """Types what comes, until the client is gone or says what is not understood."""
    takes = True
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            takes = takes and await given.write(message)
            continue
        try:
            size = msgspec.json.decode(message, type=_Size)
            given.resize(size.rows, size.columns)
        except (msgspec.MsgspecError, MesocosmError) as error:
            await _tell(socket, error=str(error))
            return


async def _tell(socket: WebSocket, **what: str | int | None) -> None:
    await socket.send(msgspec.json.encode(what).decode())
