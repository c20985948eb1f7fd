"""The v1 operator API: POST /api/v1 with a call in JSON or protobuf, answered in either.

Every answer is made as JSON first, in which Mesos's own differ least from one another; protobuf is made of that.
"""

from __future__ import annotations

import base64
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from mesocosm.agent.agent import Agent, Observed
from mesocosm.agent.authorization import Action
from mesocosm.agent.files import FileInfo, FilesError
from mesocosm.agent.http import state
from mesocosm.agent.http.access import Access, named
from mesocosm.agent.http.frameworks import Shown
from mesocosm.agent.http.negotiation import MediaTypes, negotiate
from mesocosm.agent.http.reply import (
    JSON,
    PROTOBUF,
    RECORDIO,
    Reply,
    RequestError,
    bad_request,
    json_reply,
    not_found,
    not_launched,
)
from mesocosm.agent.http.routes import Request
from mesocosm.agent.http.streams import Exchange, Records, StreamHandler, decoded
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import Metrics
from mesocosm.agent.tokens import ExecutorClaims
from mesocosm.api import convert, validation
from mesocosm.api.headers import TRANSIENT
from mesocosm.api.json import from_json, to_json
from mesocosm.api.v1 import CommandInfo
from mesocosm.api.v1 import ContainerID as ContainerIDMessage
from mesocosm.api.v1.agent import Call, Response
from mesocosm.concurrency import each
from mesocosm.container import ContainerID
from mesocosm.containerizer.base import LaunchResult
from mesocosm.errors import ContainerError, MesocosmError, UnknownContainerError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

Answer = dict[str, Any] | HTTPStatus | None
"""The field of the response that the call is about (None: it is not set), or the status if that is the whole answer."""

_OF_EXECUTORS = frozenset(
    {
        *("LAUNCH_NESTED_CONTAINER", "WAIT_NESTED_CONTAINER", "KILL_NESTED_CONTAINER", "REMOVE_NESTED_CONTAINER"),
        *("LAUNCH_NESTED_CONTAINER_SESSION", "ATTACH_CONTAINER_OUTPUT"),
        *("LAUNCH_CONTAINER", "WAIT_CONTAINER", "KILL_CONTAINER", "REMOVE_CONTAINER"),
    }
)
"""What an executor may call for that proves by its token who it is: all of it is about its own containers."""
_STREAMED = frozenset({"ATTACH_CONTAINER_INPUT"})
_STREAMING = frozenset({"ATTACH_CONTAINER_OUTPUT", "LAUNCH_NESTED_CONTAINER_SESSION"})


class Api:
    """The handler of /api/v1."""

    def __init__(
        self,
        agent: Agent,
        access: Access,
        metrics: Metrics,
        logs: Logs,
        address: state.Address,
        streams: Mapping[str, StreamHandler],
    ) -> None:
        """`streams` are the handlers of the calls that go on."""
        self._streams = streams
        self._agent = agent
        self._access = access
        self._metrics = metrics
        self._logs = logs
        self._address = address
        self._handlers: dict[str, Callable[[Call, str | None], Awaitable[Answer]]] = {
            "GET_HEALTH": self._get_health,
            "GET_FLAGS": self._get_flags,
            "GET_VERSION": self._get_version,
            "GET_METRICS": self._get_metrics,
            "GET_LOGGING_LEVEL": self._get_logging_level,
            "SET_LOGGING_LEVEL": self._set_logging_level,
            "LIST_FILES": self._list_files,
            "READ_FILE": self._read_file,
            "GET_STATE": self._get_state,
            "GET_CONTAINERS": self._get_containers,
            "GET_FRAMEWORKS": self._get_frameworks,
            "GET_EXECUTORS": self._get_executors,
            "GET_OPERATIONS": self._get_operations,
            "GET_TASKS": self._get_tasks,
            "GET_AGENT": self._get_agent,
            "GET_RESOURCE_PROVIDERS": self._get_resource_providers,
            "LAUNCH_NESTED_CONTAINER": self._launch_nested_container,
            "WAIT_NESTED_CONTAINER": self._wait_nested_container,
            "KILL_NESTED_CONTAINER": self._kill_nested_container,
            "REMOVE_NESTED_CONTAINER": self._remove_nested_container,
            "LAUNCH_CONTAINER": self._launch_container,
            "WAIT_CONTAINER": self._wait_container,
            "KILL_CONTAINER": self._kill_container,
            "REMOVE_CONTAINER": self._remove_container,
            "PRUNE_IMAGES": self._prune_images,
        }

    async def handle(self, request: Request) -> Reply:
        """Answers one request. Raises RequestError."""
        if not self._agent.recovered:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Agent has not finished recovery")
        media = negotiate(request.headers)
        records = None if media.message_content is None else Records(request.chunks(), media.message_content)
        call = await _read_call(request, media, records)
        kind = Call.Type.Name(call.type)
        _check_streaming(kind, media)
        if kind not in self._handlers and kind not in self._streams:
            raise RequestError(HTTPStatus.NOT_IMPLEMENTED, f"{kind} is not served by this version")
        principal = request.principal if request.executor is None else self._own(call, kind, request.executor)
        logger.debug("processing %s", kind, extra={"principal": principal})
        if kind in self._streams:
            transient = request.headers.get(TRANSIENT) == "true"
            return await self._streams[kind](call, Exchange(principal, media, records, transient))
        answer = await self._handlers[kind](call, principal)
        if isinstance(answer, HTTPStatus):
            return Reply(answer)
        response = {"type": kind} if answer is None else {"type": kind, kind.lower(): answer}
        return _encoded(response, media.accept)

    # What the agent is.

    async def _get_health(self, call: Call, principal: str | None) -> Answer:
        return {"healthy": True}

    async def _get_flags(self, call: Call, principal: str | None) -> Answer:
        self._access.require(principal, Action.VIEW_FLAGS)
        return {"flags": [{"name": name, "value": text} for name, text in self._agent.texts.items()]}

    async def _get_version(self, call: Call, principal: str | None) -> Answer:
        return {"version_info": state.version_info()}

    async def _get_metrics(self, call: Call, principal: str | None) -> Answer:
        timeout = call.get_metrics.timeout.nanoseconds / 1e9 if call.get_metrics.HasField("timeout") else None
        metrics = await self._metrics.snapshot(timeout)
        return {"metrics": [{"name": name, "value": value} for name, value in metrics.items()]}

    async def _get_logging_level(self, call: Call, principal: str | None) -> Answer:
        return {"level": self._logs.level}

    async def _set_logging_level(self, call: Call, principal: str | None) -> Answer:
        self._access.require(principal, Action.SET_LOG_LEVEL)
        asked = call.set_logging_level
        try:
            self._logs.toggle(asked.level, asked.duration.nanoseconds / 1e9)
        except MesocosmError as error:
            raise bad_request(str(error)) from None
        return HTTPStatus.OK

    async def _get_agent(self, call: Call, principal: str | None) -> Answer:
        return {"agent_info": state.agent_info(self._agent, self._address), **state.drain(self._agent)}

    async def _get_resource_providers(self, call: Call, principal: str | None) -> Answer:
        return {}

    # Frameworks and their tasks.

    async def _get_state(self, call: Call, principal: str | None) -> Answer:
        shown = self._shown(principal)
        return {
            "get_tasks": shown.get_tasks(),
            "get_executors": shown.get_executors(),
            "get_frameworks": shown.get_frameworks(),
        }

    async def _get_frameworks(self, call: Call, principal: str | None) -> Answer:
        return self._shown(principal).get_frameworks()

    async def _get_executors(self, call: Call, principal: str | None) -> Answer:
        return self._shown(principal).get_executors()

    async def _get_operations(self, call: Call, principal: str | None) -> Answer:
        operations = self._agent.tasks.reservations.operations.values()
        return {"operations": list(map(to_json, operations))} if operations else {}

    async def _get_tasks(self, call: Call, principal: str | None) -> Answer:
        return self._shown(principal).get_tasks()

    def _shown(self, principal: str | None) -> Shown:
        return Shown(self._agent.tasks.frameworks, self._agent.authorizer, principal)

    # Files.

    async def _list_files(self, call: Call, principal: str | None) -> Answer:
        found = await _shown(self._agent.sandboxes.files.browse(call.list_files.path, principal))
        return {"file_infos": [_file_info(file) for file in found]} if found else {}

    async def _read_file(self, call: Call, principal: str | None) -> Answer:
        asked = call.read_file
        length = asked.length if asked.HasField("length") else None
        chunk = await _shown(self._agent.sandboxes.files.read(asked.path, asked.offset, length, principal))
        return {"size": chunk.size, "data": base64.b64encode(chunk.data).decode()}

    # Containers.

    async def _get_containers(self, call: Call, principal: str | None) -> Answer:
        asked = call.get_containers
        found = await self._agent.observe(nested=asked.show_nested, standalone=asked.show_standalone)
        seen = [observed for observed in found if self._access.shows(principal, observed)]
        return {"containers": await each(_container, seen)} if seen else None

    async def _launch_container(self, call: Call, principal: str | None) -> Answer:
        return await self._launch(call.launch_container, principal)

    async def _launch_nested_container(self, call: Call, principal: str | None) -> Answer:
        return await self._launch(call.launch_nested_container, principal)

    async def _launch(self, asked: Call.LaunchContainer | Call.LaunchNestedContainer, principal: str | None) -> Answer:
        container_id = named(asked.container_id)
        user = asked.command.user if asked.command.HasField("user") else None
        self._access.require_on(principal, "launch", container_id, user)
        try:
            config = convert.container_config(
                asked, self._agent.default_container, switch_user=self._agent.flags.switch_user
            )
            result = await self._agent.launch(container_id, config)
        except (MesocosmError, OSError, ExceptionGroup) as error:
            raise not_launched(error) from None
        if result is LaunchResult.NOT_SUPPORTED:
            raise bad_request("The provided ContainerInfo is not supported")
        return HTTPStatus.ACCEPTED if result is LaunchResult.ALREADY_LAUNCHED else HTTPStatus.OK

    async def _wait_container(self, call: Call, principal: str | None) -> Answer:
        return await self._wait(call.wait_container.container_id, principal)

    async def _wait_nested_container(self, call: Call, principal: str | None) -> Answer:
        return await self._wait(call.wait_nested_container.container_id, principal)

    async def _wait(self, asked: ContainerIDMessage, principal: str | None) -> Answer:
        container_id = self._existing(asked, "wait", principal)
        try:
            termination = await self._agent.wait(container_id)
        except UnknownContainerError:
            raise not_found(f"Container {container_id} cannot be found") from None
        except ContainerError as error:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        return to_json(convert.termination(termination))

    async def _kill_container(self, call: Call, principal: str | None) -> Answer:
        return await self._kill(call.kill_container, principal)

    async def _kill_nested_container(self, call: Call, principal: str | None) -> Answer:
        return await self._kill(call.kill_nested_container, principal)

    async def _kill(self, asked: Call.KillContainer | Call.KillNestedContainer, principal: str | None) -> Answer:
        container_id = self._existing(asked.container_id, "kill", principal)
        number = asked.signal if asked.HasField("signal") else int(signal.SIGKILL)
        if number not in signal.valid_signals():
            raise bad_request(f"{number} is no signal")
        try:
            found = await self._agent.kill(container_id, number)
        except UnknownContainerError:
            found = False
        except ContainerError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        if not found:
            raise not_found(f"Container '{container_id}' cannot be found (or is already killed)")
        return HTTPStatus.OK

    async def _remove_container(self, call: Call, principal: str | None) -> Answer:
        return await self._remove(call.remove_container.container_id, principal)

    async def _remove_nested_container(self, call: Call, principal: str | None) -> Answer:
        try:
            return await self._remove(call.remove_nested_container.container_id, principal)
        except RequestError as error:
            # As in Mesos, whose executors do so after a launch that failed, and check nothing more where that fails.
            root = named(call.remove_nested_container.container_id).root
            if error.reply.status != HTTPStatus.NOT_FOUND or self._agent.containerizer.config(root) is None:
                raise
            return HTTPStatus.OK

    async def _remove(self, asked: ContainerIDMessage, principal: str | None) -> Answer:
        container_id = self._existing(asked, "remove", principal)
        try:
            await self._agent.remove(container_id)
        except UnknownContainerError:
            raise not_found(f"Container {container_id} cannot be found") from None
        except ContainerError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        return HTTPStatus.OK

    async def _prune_images(self, call: Call, principal: str | None) -> Answer:
        self._access.require(principal, Action.PRUNE_IMAGES)
        try:
            await self._agent.prune_images(convert.image_names(call.prune_images.excluded_images))
        except (MesocosmError, OSError) as error:
            raise bad_request(f"The images could not be pruned: {error}") from None
        return HTTPStatus.OK

    def _own(self, call: Call, kind: str, executor: ExecutorClaims) -> str:
        """The principal that an executor is where it calls for what is in its own container. Raises RequestError: 403.

        As another user it launches what its framework might run as that one.
        """
        asked = getattr(call, kind.lower(), None)
        if kind not in _OF_EXECUTORS or asked is None:
            raise RequestError(HTTPStatus.FORBIDDEN, f"{kind} is not for executors")
        container_id = named(asked.container_id)
        if container_id.parent is None or container_id.root.value != executor.container_id:
            raise RequestError(HTTPStatus.FORBIDDEN, f"{container_id} is in no container of {executor.principal}")
        command: CommandInfo = getattr(asked, "command", CommandInfo())
        framework = self._agent.tasks.frameworks.get(executor.framework_id)
        if command.HasField("user") and (
            framework is None or not framework.may_be(command.user, self._agent.authorizer)
        ):
            text = f"the framework {executor.framework_id} may run nothing as the user {command.user!r}"
            raise RequestError(HTTPStatus.FORBIDDEN, text)
        return executor.principal

    def _existing(self, asked: ContainerIDMessage, verb: str, principal: str | None) -> ContainerID:
        """The container that a call is about, which `principal` may do that with. Raises RequestError."""
        container_id = named(asked)
        self._access.require_on(principal, verb, container_id)
        return container_id


async def _read_call(request: Request, media: MediaTypes, records: Records | None) -> Call:
    """The call, of a stream its first record. Raises RequestError."""
    try:
        call = decoded(await request.read(), media.content) if records is None else await anext(records)
    except StopAsyncIteration:
        raise bad_request("Received EOF while reading request body") from None
    except ValueError as error:
        raise bad_request(str(error)) from None
    if (reason := validation.validate(call)) is not None:
        raise bad_request(f"Failed to validate agent::Call: {reason}")
    return call


def _check_streaming(kind: str, media: MediaTypes) -> None:
    """Refuses a stream where there is none, and the other way round. Raises RequestError."""
    if media.content == RECORDIO and kind not in _STREAMED:
        text = f"Streaming 'Content-Type' {RECORDIO} is not supported for {kind} call"
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    if media.content != RECORDIO and kind in _STREAMED:
        text = f"Expecting 'Content-Type' to be {RECORDIO} for {kind} call"
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    if media.accept == RECORDIO and kind not in _STREAMING:
        raise RequestError(HTTPStatus.NOT_ACCEPTABLE, f"Streaming response is not supported for {kind} call")


def _encoded(response: dict[str, Any], media_type: str) -> Reply:
    if media_type == JSON:
        return json_reply(response)
    return Reply(body=from_json(response, Response).SerializeToString(), content_type=PROTOBUF)


async def _shown(work: Awaitable[Result]) -> Result:
    """What the files answer. Raises RequestError."""
    try:
        return await work
    except FilesError as error:
        raise RequestError(error.status, str(error)) from None


def _file_info(file: FileInfo) -> dict[str, Any]:
    return {
        "path": file.path,
        "nlink": file.nlink,
        "size": file.size,
        "mtime": {"nanoseconds": file.mtime * 1_000_000_000},
        "mode": file.mode,
        "uid": file.uid,
        "gid": file.gid,
    }


def _container(observed: Observed) -> dict[str, Any]:
    container: dict[str, Any] = {}
    if (executor := observed.executor) is not None:
        container = {
            "framework_id": {"value": executor.framework_id},
            "executor_id": {"value": executor.id},
            "executor_name": executor.info.name,
        }
    container["container_id"] = {"value": observed.container_id.value}
    if observed.status is not None:
        container["container_status"] = to_json(convert.container_status(observed.status))
    if observed.statistics is not None:
        container["resource_statistics"] = to_json(convert.resource_statistics(observed.statistics))
    return container
