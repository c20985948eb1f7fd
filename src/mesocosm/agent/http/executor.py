"""The API for executors: POST /api/v1/executor with a call in JSON or protobuf (docs/executor-http-api.md of Mesos)."""

from __future__ import annotations

import logging
from http import HTTPStatus

from mesocosm.agent.agent import Agent
from mesocosm.agent.http.negotiation import accepted_type, essence
from mesocosm.agent.http.reply import JSON, PROTOBUF, Reply, RequestError, bad_request
from mesocosm.agent.http.routes import Request
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.links import HttpLink
from mesocosm.agent.tokens import ExecutorClaims
from mesocosm.api import v1
from mesocosm.api.binary import from_bytes
from mesocosm.api.json import from_json, loads
from mesocosm.api.v1.executor import Call

logger = logging.getLogger(__name__)

_UUID = 16


class ExecutorApi:
    """The handler of /api/v1/executor."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._tasks = agent.tasks

    async def handle(self, request: Request) -> Reply:
        """Answers one request. Raises RequestError."""
        if not self._tasks.awaits_executors:
            raise _not_recovered()
        call = await _read_call(request)
        accept = _accept(request) if call.type == Call.SUBSCRIBE else None
        if call.type == Call.HEARTBEAT:
            return Reply(HTTPStatus.ACCEPTED)
        if accept is None and not self._agent.recovered:
            raise _not_recovered()
        framework, executor = self._find(call)
        claims = ExecutorClaims(framework.id, executor.id, executor.container_id.value)
        if request.executor is not None and request.executor != claims:
            raise RequestError(HTTPStatus.FORBIDDEN, f"{request.executor.principal} is not the one of this call")
        if executor.state is ExecutorState.REGISTERING and accept is None:
            raise RequestError(HTTPStatus.FORBIDDEN, "Executor is not subscribed")
        if accept is not None:
            return self._subscribe(framework, executor, call, accept)
        if call.type == Call.UPDATE:
            self._tasks.update(framework.id, executor.id, call.update.status)
        elif call.type == Call.MESSAGE:
            self._tasks.executor_message(framework, executor, call.message.data)
        else:
            raise RequestError(HTTPStatus.NOT_IMPLEMENTED)
        return Reply(HTTPStatus.ACCEPTED)

    def _find(self, call: Call) -> tuple[Framework, Executor]:
        framework = self._tasks.frameworks.get(call.framework_id.value)
        if framework is None:
            raise bad_request("Framework cannot be found")
        executor = framework.executors.get(call.executor_id.value)
        if executor is None:
            raise bad_request("Executor cannot be found")
        return framework, executor

    def _subscribe(self, framework: Framework, executor: Executor, call: Call, accept: str) -> Reply:
        link = HttpLink(as_json=accept == JSON)
        logger.info("the executor %s of the framework %s subscribes", executor.id, framework.id)
        updates = [
            self._tasks.registration.completed(framework.id, update.status)
            for update in call.subscribe.unacknowledged_updates
        ]
        self._tasks.subscribe(framework, executor, link, updates, call.subscribe.unacknowledged_tasks)
        return Reply(content_type=accept, stream=link.stream())


def _not_recovered() -> RequestError:
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Agent has not finished recovery")


async def _read_call(request: Request) -> Call:
    """Raises RequestError."""
    given = request.headers.get("Content-Type")
    if given is None:
        raise bad_request("Expecting 'Content-Type' to be present")
    content = essence(given)
    if content not in (JSON, PROTOBUF):
        text = f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}"
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    body = await request.read()
    try:
        call = from_json(loads(body), Call) if content == JSON else from_bytes(body, Call)
    except ValueError as error:
        raise bad_request(str(error)) from None
    if (reason := validate(call)) is not None:
        raise bad_request(f"Failed to validate Executor::Call: {reason}")
    return call


def _accept(request: Request) -> str:
    accept = accepted_type(request.headers.get("Accept"), (JSON, PROTOBUF))
    if accept is None:
        text = f"Expecting 'Accept' to allow '{PROTOBUF}' or '{JSON}'"
        raise RequestError(HTTPStatus.NOT_ACCEPTABLE, text)
    return accept


def validate(call: Call) -> str | None:
    """What is wrong with a call, in the words of Mesos (common/validation.cpp); None: nothing."""
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    if call.type == Call.SUBSCRIBE and not call.HasField("subscribe"):
        return "Expecting 'subscribe' to be present"
    if call.type == Call.UPDATE:
        return _validate_update(call) if call.HasField("update") else "Expecting 'update' to be present"
    if call.type == Call.MESSAGE and not call.HasField("message"):
        return "Expecting 'message' to be present"
    return None


def _validate_update(call: Call) -> str | None:
    status, executor = call.update.status, f"executor {call.executor_id.value}"
    if not status.HasField("uuid"):
        return "Expecting 'uuid' to be present"
    if len(status.uuid) != _UUID:
        return f"Not a valid UUID: it has {len(status.uuid)} bytes"
    if status.HasField("executor_id") and status.executor_id.value != call.executor_id.value:
        return (
            f"ExecutorID in Call: {call.executor_id.value} does not match ExecutorID in TaskStatus:"
            f" {status.executor_id.value}"
        )
    of = f"{executor} of framework {call.framework_id.value}"
    if status.source != v1.TaskStatus.SOURCE_EXECUTOR or not status.HasField("source"):
        return f"Received Call from {of} with invalid source, expecting 'SOURCE_EXECUTOR'"
    if status.state == v1.TASK_STAGING:
        return f"Received TASK_STAGING from {of} which is not allowed"
    return validate_check_status(status.check_status) if status.HasField("check_status") else None


def validate_check_status(status: v1.CheckStatusInfo) -> str | None:
    """What is wrong with the answer of a check, in the words of Mesos (checks/checks_types.cpp); None: nothing."""
    if not status.HasField("type"):
        return "CheckStatusInfo must specify 'type'"
    name = v1.CheckInfo.Type.Name(status.type)
    if status.type == v1.CheckInfo.UNKNOWN:
        return f"'{name}' is not a valid check's status type"
    if not status.HasField(name.lower()):
        return f"Expecting '{name.lower()}' to be set for {name} check's status"
    return None
