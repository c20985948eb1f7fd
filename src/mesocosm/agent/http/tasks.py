"""Tasks without a master: POST /tasks has them run, and its answer tells what becomes of them.

The events come as RecordIO in JSON: one SUBMITTED with the framework that was made up for the tasks, then a STATUS for
each `TaskStatus`. When the client goes away, its tasks are ended. POST /tasks/kill kills them as their policies say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from mesocosm.agent.agent import Agent
from mesocosm.agent.http.reply import JSON, RECORDIO, Reply, RequestError, bad_request, not_found
from mesocosm.agent.http.routes import Request
from mesocosm.agent.http.state import Address
from mesocosm.agent.tasks.local import LocalMaster, Run
from mesocosm.agent.tasks.submission import Submission
from mesocosm.api import recordio
from mesocosm.api.json import loads, to_json
from mesocosm.master.registration import slave_info
from mesocosm.users import of_this_process

_NAME = "mesocosm run"


class LocalTasks:
    """The handlers of /tasks and /tasks/kill."""

    def __init__(self, agent: Agent, address: Address) -> None:
        self._agent = agent
        self._address = address
        self._master: LocalMaster | None = None

    async def submit(self, request: Request) -> Reply:
        """Takes `{"task": …, "user": …, "name": …}`, of which the latter two may be absent. Raises RequestError."""
        master = self._ready()
        asked = await _read(request, {"task", "user", "name"})
        try:
            submission = Submission.read(asked.get("task"), master.agent_id)
        except ValueError as error:
            raise bad_request(str(error)) from None
        user = _text(asked, "user", of_this_process())
        name, principal = _text(asked, "name", _NAME), request.principal
        submit = partial(master.submit, submission, name=name, user=user, principal=principal)
        return Reply(content_type=RECORDIO, headers={"Message-Content-Type": JSON}, stream=_events(submit))

    async def kill(self, request: Request) -> Reply:
        """Takes `{"framework_id": {"value": …}}`. Raises RequestError."""
        master = self._ready()
        asked = await _read(request, {"framework_id"})
        identity = asked.get("framework_id")
        name = identity.get("value") if isinstance(identity, dict) else None
        run = master.find(name, request.principal) if isinstance(name, str) else None
        if run is None:
            raise not_found(f"no tasks of the framework {name!r} are waited for")
        run.kill()
        return Reply(HTTPStatus.ACCEPTED)

    def _ready(self) -> LocalMaster:
        """What stands in for a master, from the first tasks on: before, the agent is not registered anywhere."""
        if not self._agent.recovered:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Agent has not finished recovery")
        if self._agent.flags.master is not None:
            raise RequestError(HTTPStatus.CONFLICT, "this agent has its tasks from its master: launch them there")
        if self._master is None:
            self._master = LocalMaster(self._agent.tasks)
            address, agent = self._address, self._agent
            self._master.start(slave_info(address.hostname, address.port, agent.resources, agent.attributes))
        return self._master


async def _events(submit: Callable[[], Run]) -> AsyncGenerator[bytes, None]:
    run = submit()  # Not before: a stream that has not begun is never ended.
    try:
        yield _event("SUBMITTED", framework_id={"value": run.framework_id})
        async for status in run.statuses():
            yield _event("STATUS", status=to_json(status))
    finally:
        run.close()


def _event(kind: str, **fields: Any) -> bytes:
    return recordio.encode(msgspec.json.encode({"type": kind, **fields}))


async def _read(request: Request, known: set[str]) -> dict[str, Any]:
    """The object of JSON that was sent. Raises RequestError."""
    try:
        value = loads(await request.read())
    except ValueError as error:
        raise bad_request(str(error)) from None
    if not isinstance(value, dict) or (unknown := sorted(value.keys() - known)):
        what = f"there is no field {unknown[0]!r}" if isinstance(value, dict) else "this is no object of JSON"
        raise bad_request(f"{what}; the fields are {', '.join(sorted(known))}")
    return value


def _text(asked: dict[str, Any], name: str, default: str) -> str:
    value = asked.get(name, default)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{name} is a text that is not empty")
    return value
