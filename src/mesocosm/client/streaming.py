"""An agent that is asked many things at the same time, for programs of asyncio."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

import aiohttp

from mesocosm.client import Json
from mesocosm.client.address import CONNECT_SECONDS, Address
from mesocosm.client.answers import Messages


class AgentClient:
    """Speaks to one agent."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Raises FlagError for certificates that are none."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=_connector(self.address), headers=self.address.headers, timeout=timeout
        )
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
        async with contextlib.aclosing(self._messages("/tasks", {"task": task, "user": user})) as events:
            async for event in events:
                yield event

    async def kill_tasks(self, framework_id: str) -> None:
        """Has the tasks of such a run killed, each as its policy says. Raises AgentError."""
        (await self._post("/tasks/kill", {"framework_id": {"value": framework_id}})).release()

    async def attach_output(self, container_id: Json) -> AsyncGenerator[tuple[str, bytes], None]:
        """What a container (a `ContainerID`) writes from now on, until it has ended: STDOUT or STDERR, and the piece.

        Raises AgentError.
        """
        call = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": container_id}}
        async with contextlib.aclosing(self._messages("/api/v1", call)) as messages:
            async for message in messages:
                if message["type"] == "DATA":
                    yield message["data"]["type"], base64.b64decode(message["data"]["data"])

    async def follow(self, path: str, offset: int, until: str | None = None) -> AsyncGenerator[bytes, None]:
        """What comes into a file that the agent shows, from there on, until a container has ended, if one is named.

        Raises AgentError.
        """
        query = {"path": path, "offset": str(offset)} | ({} if until is None else {"until": until})
        async with await self._ask("GET", "/files/follow", params=query) as answer:
            try:
                async for part in answer.content.iter_any():
                    yield part
            except aiohttp.ClientError as error:
                raise self.address.lost(error) from None

    async def _messages(self, path: str, call: Json) -> AsyncGenerator[Json, None]:
        """The records of an answer that goes on, which are JSON. Raises AgentError."""
        found = Messages(self.address)
        async with await self._post(path, call) as answer:
            try:
                async for part in answer.content.iter_any():
                    for message in found.feed(part):
                        yield message
            except aiohttp.ClientError as error:
                raise self.address.lost(error) from None
        found.feed(b"")

    async def _post(self, path: str, call: Json) -> aiohttp.ClientResponse:
        """Raises AgentError unless the answer is a success."""
        return await self._ask("POST", path, json=call)

    async def _ask(self, method: str, path: str, **body: Any) -> aiohttp.ClientResponse:
        """Raises AgentError unless the answer is a success."""
        assert self._session is not None
        try:
            answer = await self._session.request(method, f"{self.address.url}{path}", **body)
            if answer.status < 300:
                return answer
            async with answer:
                text = await answer.text(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            raise self.address.unreachable(getattr(error, "os_error", error)) from None
        raise self.address.refusal(answer.status, answer.reason or "", text, answer.headers.get)


def _connector(address: Address) -> aiohttp.BaseConnector:
    if address.socket is not None:
        return aiohttp.UnixConnector(str(address.socket))
    return aiohttp.TCPConnector(ssl=True if address.trust is None else address.trust.context())
