"""What containers write, as it comes: ATTACH_CONTAINER_OUTPUT, and the endpoint `/files/follow`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from http import HTTPStatus

from mesocosm.agent.agent import Agent
from mesocosm.agent.files import FilesError
from mesocosm.agent.http.access import Access, named
from mesocosm.agent.http.reply import Reply, RequestError, StreamCutError, bad_request, not_found
from mesocosm.agent.http.routes import Request
from mesocosm.agent.http.streams import PATIENCE, Exchange, with_heartbeats
from mesocosm.agent.http.v0 import integer_of, path_of, switch_of
from mesocosm.api import process_io
from mesocosm.api.v1.agent import Call
from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError, UnknownContainerError
from mesocosm.loggers.selection import DEFAULT, keeps_in_sandbox
from mesocosm.switchboard.follow import BehindError, BeyondError

_HEADERS = {"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff"}
_RECORDS = {
    as_json: {name: partial(process_io.data, name.upper(), as_json=as_json) for name in ("stdout", "stderr")}
    for as_json in (True, False)
}
"""What is sent for a part of each file. They are made once, as whoever has the same ones shares what they make."""


class Output:
    """The handlers."""

    def __init__(self, agent: Agent, access: Access) -> None:
        self._agent = agent
        self._access = access

    async def attach(self, call: Call, exchange: Exchange) -> Reply:
        """Answers ATTACH_CONTAINER_OUTPUT, until the container has ended. Raises RequestError."""
        container_id = named(call.attach_container_output.container_id)
        self._access.require_attach(exchange.principal, "output", container_id)
        try:
            follow = await self._agent.outputs.attach(container_id, _RECORDS[exchange.as_json])
        except UnknownContainerError:
            raise not_found(f"Container {container_id} cannot be found (or has ended)") from None
        except FilesError as error:
            raise self._refusal(error, f"{container_id} has no output that can be followed: ") from None
        interval = self._agent.flags.http_heartbeat_interval
        return exchange.reply(_pieces(with_heartbeats(follow, interval, as_json=exchange.as_json)), follow.close)

    async def follow(self, request: Request) -> Reply:
        """Sends what comes into the file `path` from `offset` on, until the container `until` has ended, if any.

        With `oldest=true` it begins with those that were full, if they are kept. Raises RequestError.
        """
        until, offset, oldest = self._until(request), _offset(request), switch_of(request, "oldest")
        if oldest and offset is not None:
            raise bad_request("Expecting either 'offset' or 'oldest=true' in query")
        try:
            follow = await self._agent.outputs.follow(path_of(request), offset, request.principal, until, oldest=oldest)
        except FilesError as error:
            raise self._refusal(error) from None
        except BeyondError as error:
            raise RequestError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, str(error)) from None
        return Reply(headers=_HEADERS, stream=_pieces(follow), patience=PATIENCE, release=follow.close)

    def _refusal(self, error: FilesError, what: str = "") -> RequestError:
        """Of a file that is not there, because its logger keeps output elsewhere, it says that."""
        logger = self._agent.flags.container_logger or DEFAULT
        elsewhere = error.status == HTTPStatus.NOT_FOUND and not keeps_in_sandbox(logger)
        reason = f"; --container_logger={logger} keeps output elsewhere" if elsewhere else ""
        return RequestError(error.status, f"{what}{error}{reason}")

    def _until(self, request: Request) -> ContainerID | None:
        if (text := request.query.get("until")) is None:
            return None
        try:
            container_id = ContainerID.parse(text)
        except ContainerError as error:
            raise bad_request(f"until: {error}") from None
        self._access.require_on(request.principal, "wait", container_id)
        return container_id


async def _pieces(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """These. Raises StreamCutError where they end before their end."""
    try:
        async for piece in pieces:
            yield piece
    except (BehindError, OSError) as error:
        raise StreamCutError(str(error)) from error


def _offset(request: Request) -> int | None:
    offset = integer_of(request, "offset")
    if offset is not None and offset < 0:
        raise bad_request(f"Negative offset provided: {offset}")
    return offset
