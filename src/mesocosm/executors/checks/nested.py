"""Checks of a task that is a container of its own, where a command is a session (Mesos: src/checks/)."""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from mesocosm.executors.checks.probes import CheckError, UnaskedError
from mesocosm.executors.http import Address
from mesocosm.executors.operator import Operator, Refused
from mesocosm.executors.statuses import Json, describe

if TYPE_CHECKING:
    import ssl

_NOT_READY = 503
_STDERR = 2


class InContainer:
    """In the container of a task, which is in the network of its executor."""

    def __init__(self, operator: Operator, container_id: Json) -> None:
        self._operator = operator
        self._container_id = container_id
        self._forgetting: set[asyncio.Task[None]] = set()

    async def execute(self, command: Json) -> int:
        """With the task's environment, in its directory; what it prints is no output of the task.

        Raises UnaskedError where the agent is not there.
        """
        session = {"value": f"check-{uuid.uuid4()}", "parent": self._container_id}
        try:
            status = await self._run(session, command)
        except Refused as refused:
            if refused.status == _NOT_READY:
                raise UnaskedError(str(refused)) from refused
            raise CheckError(str(refused)) from refused
        except OSError as error:
            raise UnaskedError(f"the agent does not answer: {error}") from error
        finally:
            forgetting = asyncio.ensure_future(self._forget(session))
            self._forgetting.add(forgetting)
            forgetting.add_done_callback(self._forgetting.discard)
        if status is None or not os.WIFEXITED(status):
            raise CheckError("its status is not known" if status is None else describe(status))
        return os.WEXITSTATUS(status)

    async def _run(self, session: Json, command: Json) -> int | None:
        """The status of wait(2). Without the connection the session ends."""
        asked = {"container_id": session, "command": command}
        launch = {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": asked}
        async for message in self._operator.listen(launch):
            if message["type"] == "DATA":
                os.write(_STDERR, base64.b64decode(message["data"].get("data", "")))
        answer = await self._operator.call(_of("WAIT_CONTAINER", session))
        status: int | None = answer.get("wait_container", {}).get("exit_status")
        return status

    async def _forget(self, session: Json) -> None:
        """Removes what is left of it, as soon as it has ended."""
        with suppress(Refused, OSError):  # It never began; or its parent ends, and takes it along.
            await self._operator.call(_of("WAIT_CONTAINER", session))
            await self._operator.call(_of("REMOVE_CONTAINER", session))

    def address(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Address:
        """As it is."""
        return Address(host, port, tls=tls)


def _of(kind: str, container_id: Json) -> Json:
    return {"type": kind, kind.lower(): {"container_id": container_id}}
