"""What a program asks of an agent, over TCP or the agent's Unix socket."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from mesocosm.api.recordio import Decoder
from mesocosm.errors import MesocosmError

Json = dict[str, Any]

_ANYWHERE = "http://agent"
"""Stands for the agent in URLs of requests by a Unix socket."""
_LONGEST = 200


class AgentError(MesocosmError):
    """The agent cannot be reached, or refuses a request."""


class AgentClient:
    """Speaks to one agent, by a URL such as `http://user:password@host:5051` or by its Unix socket."""

    def __init__(self, agent: str | Path, credentials: tuple[str, str] | None = None) -> None:
        """`credentials` are a principal and its secret, if they are not in the URL. Raises AgentError for no URL."""
        by_socket = isinstance(agent, Path)
        self._name = str(agent)
        self._url = _ANYWHERE if by_socket else _checked(str(agent))
        self._socket = agent if isinstance(agent, Path) else None
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        auth = None if self._credentials is None else aiohttp.BasicAuth(*self._credentials)
        connector = None if self._socket is None else aiohttp.UnixConnector(str(self._socket))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(connector=connector, auth=auth, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def run_task(self, task: Json, user: str) -> AsyncGenerator[Json, None]:
        """The events of tasks that the agent runs, until all have ended. Closed before, it ends them.

        Raises AgentError.
        """
        decoder = Decoder()
        async with await self._post("/tasks", {"task": task, "user": user}) as answer:
            try:
                async for part in answer.content.iter_any():
                    for record in decoder.feed(part):
                        yield json.loads(record)
            except aiohttp.ClientError as error:
                raise AgentError(f"{self._name}: the connection is lost: {error}") from None

    async def kill_tasks(self, framework_id: str) -> None:
        """Has the tasks of such a run killed, each as its policy says. Raises AgentError."""
        (await self._post("/tasks/kill", {"framework_id": {"value": framework_id}})).release()

    async def read_file(self, path: str) -> AsyncGenerator[bytes, None]:
        """A file that the agent shows, piece by piece, to its present end. Raises AgentError."""
        offset = 0
        while True:
            call = {"type": "READ_FILE", "read_file": {"path": path, "offset": offset}}
            async with await self._post("/api/v1", call) as answer:
                data = base64.b64decode((await answer.json())["read_file"]["data"])
            if not data:
                return
            offset += len(data)
            yield data

    async def _post(self, path: str, call: Json) -> aiohttp.ClientResponse:
        """Raises AgentError unless the answer is a success."""
        assert self._session is not None
        headers = {"Accept": "application/json"}
        try:
            answer = await self._session.post(f"{self._url}{path}", json=call, headers=headers)
            if answer.status < 300:
                return answer
            async with answer:
                text = " ".join((await answer.text(errors="replace")).split())[:_LONGEST]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AgentError(f"{self._name}: no agent answers there: {error}") from None
        raise AgentError(text or f"{self._name}: {answer.status} {answer.reason}")


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise AgentError(f"{url!r} is no URL of an agent", "write it as http://HOST:PORT")
    return url.rstrip("/")
