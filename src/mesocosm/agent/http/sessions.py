"""Calls by which people use a container at this moment: LAUNCH_NESTED_CONTAINER_SESSION, ATTACH_CONTAINER_INPUT."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from types import TracebackType

from mesocosm.agent.agent import Agent
from mesocosm.agent.http.access import Access, named
from mesocosm.agent.http.reply import Reply, RequestError, bad_request, not_found, not_launched
from mesocosm.agent.http.streams import Exchange, with_heartbeats
from mesocosm.api import convert, process_io, validation
from mesocosm.api.v1.agent import Call, ProcessIO
from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError, MesocosmError, UnknownContainerError
from mesocosm.switchboard.input import Input
from mesocosm.switchboard.session import Session
from mesocosm.switchboard.switchboard import BusyError

logger = logging.getLogger(__name__)


class SessionCalls:
    """The handlers, of one agent."""

    def __init__(self, agent: Agent, access: Access) -> None:
        self._agent = agent
        self._access = access

    async def launch(self, call: Call, exchange: Exchange) -> Reply:
        """Launches a debug container, which lives as long as the answer is read. Raises RequestError."""
        container_id, config = self.asked(call, exchange.principal)
        session = await self.open(container_id, config)
        if session is None:
            return Reply(HTTPStatus.ACCEPTED)
        interval = self._agent.flags.http_heartbeat_interval
        records = with_heartbeats(_Records(session, as_json=exchange.as_json), interval, as_json=exchange.as_json)

        async def close(was_read: bool) -> None:
            await self.close(session, keep=was_read or not exchange.transient)

        stream = _SessionStream(records, close)
        return replace(exchange.reply(stream), patience=None)  # Who does not read makes the command wait, as ssh does.

    def asked(self, call: Call, principal: str | None) -> tuple[ContainerID, ContainerConfig]:
        """The session that a `principal` asks for, who may have it. Raises RequestError."""
        asked = call.launch_nested_container_session
        try:
            container_id = convert.container_id(asked.container_id)
            user = asked.command.user if asked.command.HasField("user") else None
            self._access.require_session(principal, container_id, user)
            return container_id, convert.container_config(
                asked, self._agent.default_container, switch_user=self._agent.flags.switch_user
            )
        except MesocosmError as error:
            raise bad_request(str(error)) from None

    def terminal(self, asked: Call.AttachContainerOutput, principal: str | None) -> ContainerID:
        """The container whose own terminal a `principal` asks for, who may see it and type. Raises RequestError."""
        container_id = named(asked.container_id)
        for stream in ("output", "input"):
            self._access.require_attach(principal, stream, container_id)
        config = self._agent.containerizer.config(container_id)
        if config is None:
            raise not_found(f"Container {container_id} cannot be found")
        if config.tty_info is None:
            raise bad_request(f"{container_id} has no terminal of its own")
        return container_id

    async def open(self, container_id: ContainerID, config: ContainerConfig) -> Session | None:
        """Opens it; None if there is one already. Who calls closes it. Raises RequestError."""
        try:
            return await self._agent.sessions.open(container_id, config)
        except (MesocosmError, OSError, ExceptionGroup) as error:
            raise not_launched(error) from None

    async def close(self, session: Session, *, keep: bool) -> None:
        """Ends it, and unless that is to `keep`, forgets how it ended."""
        await self._agent.sessions.close(session)
        if keep:
            return
        try:
            await self._agent.remove(session.container_id)
        except UnknownContainerError:
            pass  # Its parent was removed.
        except ContainerError as error:
            logger.warning("a session that has ended is not removed: %s", error)

    async def attach_input(self, call: Call, exchange: Exchange) -> Reply:
        """Types what comes into a container, until its end or that of the request. Raises RequestError."""
        asked = call.attach_container_input
        if asked.type != Call.AttachContainerInput.CONTAINER_ID:
            raise bad_request("Expecting 'attach_container_input.type' to be CONTAINER_ID")
        try:
            container_id = convert.container_id(asked.container_id)
        except ContainerError as error:
            raise bad_request(str(error)) from None
        self._access.require_attach(exchange.principal, "input", container_id)
        if self._agent.containerizer.config(container_id) is None:
            raise not_found(f"Container {container_id} cannot be found")
        assert exchange.further is not None
        try:
            async with self._agent.switchboard.input(container_id) as given:
                await self._type(container_id, given, exchange.further)
        except BusyError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        except ContainerError as error:
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        return Reply()

    async def _type(self, container_id: ContainerID, given: Input, calls: AsyncIterator[Call]) -> None:
        """Returns when there is no more to type, or nobody there who would read it. Raises RequestError."""
        typing = asyncio.create_task(_type_all(given, calls))
        ended = asyncio.create_task(self._agent.wait(container_id))
        try:
            await asyncio.wait((typing, ended), return_when=asyncio.FIRST_COMPLETED)
            if typing.done():
                typing.result()
        finally:
            for task in (typing, ended):
                task.cancel()
            await asyncio.gather(typing, ended, return_exceptions=True)


class _SessionStream(AsyncGenerator[bytes, None]):
    """What a session's container writes, as records. A generator would not close what it never began with."""

    def __init__(self, records: AsyncGenerator[bytes, None], close: Callable[[bool], Awaitable[None]]) -> None:
        """`close` ends the session with the connection; it is told whether everything was read of it."""
        self._records = records
        self._close = close
        self._is_over = False

    async def asend(self, value: None) -> bytes:
        """The next record."""
        try:
            return await anext(self._records)
        except StopAsyncIteration:
            self._is_over = True
            raise

    async def athrow(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        trace: TracebackType | None = None,
    ) -> bytes:
        """Ends it, by that error."""
        raise kind

    async def aclose(self) -> None:
        """Ends the container with the connection."""
        try:
            await self._records.aclose()
        finally:
            await self._close(self._is_over)


class _Records(AsyncIterator[bytes]):
    """What is read of a session. A wait that is cancelled loses nothing."""

    def __init__(self, session: Session, *, as_json: bool) -> None:
        self._session = session
        self._as_json = as_json

    async def __anext__(self) -> bytes:
        if (chunk := await self._session.read()) is None:
            raise StopAsyncIteration
        return process_io.data(chunk.stream.value, chunk.data, as_json=self._as_json)


async def _type_all(given: Input, calls: AsyncIterator[Call]) -> None:
    """Raises RequestError for a call that is none of those that follow the first."""
    async for call in calls:
        if reason := validation.validate_typed(call):
            raise bad_request(reason)
        message = call.attach_container_input.process_io
        if message.type == ProcessIO.CONTROL:
            _control(given, message.control)
        elif not message.data.data:
            await given.end()
        elif not await given.write(message.data.data):
            return


def _control(given: Input, control: ProcessIO.Control) -> None:
    """A heartbeat says nothing but that somebody is there. Raises RequestError."""
    if control.type != ProcessIO.Control.TTY_INFO:
        return
    size = control.tty_info.window_size
    try:
        given.resize(size.rows, size.columns)
    except ContainerError as error:
        raise bad_request(f"Unable to set the window size: {error}") from None
