"""The older endpoints of Mesos: one path for each answer, and all of them JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from mesocosm.agent.agent import Agent, Observed
from mesocosm.agent.authentication import Realm
from mesocosm.agent.authorization import AUTHORIZABLE_ENDPOINTS, Action
from mesocosm.agent.files import FilesError
from mesocosm.agent.http import state
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.frameworks import Shown
from mesocosm.agent.http.reply import JSON, Reply, RequestError, bad_request, json_reply
from mesocosm.agent.http.routes import Handler, Request, Route, Routes
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import CONTENT_TYPE, Metrics, system_stats
from mesocosm.agent.rate_limit import RateLimiter
from mesocosm.api import convert
from mesocosm.api.json import to_json
from mesocosm.concurrency import each
from mesocosm.dataclass import replace
from mesocosm.errors import FlagError, MesocosmError
from mesocosm.units import parse_duration

_CALLBACK = re.compile(r"[\w$.\[\]]{1,128}", re.ASCII)
"""What may be called with an answer: the name, which anybody may choose, cannot be a program."""
_IDS = {"container_id", "executor_id", "framework_id"}
_FILTERS: tuple[set[str], ...] = (set(), {"container_id"}, {"framework_id"}, {"executor_id", "framework_id"})
"""Which of these a request for containers may have together."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The handlers of these endpoints."""

    agent: Agent
    access: Access
    metrics: Metrics
    limit: RateLimiter | None
    logs: Logs
    address: state.Address

    def add_to(self, routes: Routes) -> None:
        """Puts every endpoint where Mesos has it."""
        of_agent: dict[str, tuple[Handler, str]] = {
            "/state": (self._state, "The agent, what it offers and what its frameworks do."),
            "/flags": (self._flags, "The value of every flag that has one."),
            "/containers": (
                self._containers,
                "What runs and what it uses; `show_nested`, `show_standalone`: those too.",
            ),
            "/containerizer/debug": (self._debug, "Containers on their way to run or to end."),
            "/monitor/statistics": (self._statistics, "What every top-level container uses."),
        }
        others: dict[str, tuple[Handler, str]] = {
            "/files/browse": (self._browse, "The files in the directory `path`."),
            "/files/read": (self._read, "`length` bytes of the file `path`, from `offset` on."),
            "/files/download": (self._download, "The file `path`, as it is."),
            "/files/debug": (self._files_debug, "Where the files are that are shown."),
            "/metrics/snapshot": (self._snapshot, "All numbers that can be told within `timeout`."),
            "/system/stats.json": (self._system, "The load and the memory of the machine."),
        }
        for path, (handler, summary) in of_agent.items():
            routes.add(Route(path, _as_script(self._authorized(path, handler)), summary=summary), of_agent=True)
        for path, (handler, summary) in others.items():
            routes.add(Route(path, _as_script(self._authorized(path, handler)), summary=summary))
        # Lists know only the other path to the same numbers.
        prometheus = self._authorized("/metrics/snapshot", self._prometheus)
        routes.add(Route("/metrics", prometheus, summary="The same numbers for Prometheus."))
        toggle = self._authorized("/logging/toggle", self._toggle)
        methods = frozenset({"GET", "HEAD", "POST"})
        routes.add(Route("/logging/toggle", toggle, Realm.READ_WRITE, methods, "Logs at `level` for `duration`."))
        routes.add(Route("/health", self._health, realm=None, summary="200, if the agent lives."), of_agent=True)
        routes.add(Route("/version", _as_script(self._version), realm=None, summary="Which version the agent is."))

    def _authorized(self, path: str, handler: Handler) -> Handler:
        if path not in AUTHORIZABLE_ENDPOINTS:
            return handler

        async def checked(request: Request) -> Reply:
            self.access.require(request.principal, Action.GET_ENDPOINTS, path)
            return await handler(request)

        return checked

    # The agent.

    async def _health(self, request: Request) -> Reply:
        return Reply()

    async def _version(self, request: Request) -> Reply:
        return json_reply(state.version_info())

    async def _state(self, request: Request) -> Reply:
        if not self.agent.recovered:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Agent has not finished recovery")
        with_flags = self.access.allows(request.principal, Action.VIEW_FLAGS)
        shown = Shown(self.agent.tasks.frameworks, self.agent.authorizer, request.principal)
        return json_reply(state.state(self.agent, self.address, shown, with_flags=with_flags))

    async def _flags(self, request: Request) -> Reply:
        self.access.require(request.principal, Action.VIEW_FLAGS)
        return json_reply({"flags": dict(self.agent.texts)})

    # Containers. Those of executors are shown; nested and standalone ones, as Mesos does not, where it is asked for.

    async def _containers(self, request: Request) -> Reply:
        if _IDS & request.query.keys() not in _FILTERS:
            raise bad_request(
                "Supported query parameters are container_id only, framework_id only, or executor_id and framework_id"
                " only"
            )
        nested, standalone = (switch_of(request, name) for name in ("show_nested", "show_standalone"))
        found = await self.agent.observe(nested=nested, standalone=standalone)
        seen = [observed for observed in found if self.access.shows(request.principal, observed)]
        entries = await each(_container, seen)
        return json_reply([entry for entry in entries if _is_asked_for(request, entry)])

    async def _statistics(self, request: Request) -> Reply:
        """Standalone containers are shown like executors, by names which those have not."""
        found = await self.agent.observe(nested=False, described=False)
        measured = [observed for observed in found if observed.statistics is not None]
        seen = [observed for observed in measured if self.access.shows(request.principal, observed)]
        return json_reply(await each(_executor, seen))

    async def _debug(self, request: Request) -> Reply:
        """What has begun and has not ended: containers that are launched, or destroyed."""
        pending = self.agent.containerizer.pending()
        return json_reply(
            {"pending": [{"operation": state, "args": {"containerId": str(name)}} for name, state in pending.items()]}
        )

    # Files.

    async def _browse(self, request: Request) -> Reply:
        try:
            found = await self.agent.sandboxes.files.browse(path_of(request), request.principal)
        except FilesError as error:
            raise RequestError(error.status, str(error)) from None
        return json_reply([file.to_json() for file in found])

    async def _read(self, request: Request) -> Reply:
        offset, length = integer_of(request, "offset"), integer_of(request, "length")
        try:
            chunk = await self.agent.sandboxes.files.read(
                path_of(request), -1 if offset is None else offset, length, request.principal
            )
        except FilesError as error:
            raise RequestError(error.status, str(error)) from None
        return json_reply(chunk.to_json())

    async def _download(self, request: Request) -> Reply:
        try:
            download = await self.agent.sandboxes.files.open_for_download(path_of(request), request.principal)
        except FilesError as error:
            raise RequestError(error.status, str(error)) from None
        return Reply(headers=download.headers, stream=download.chunks(), release=download.file.close)

    async def _files_debug(self, request: Request) -> Reply:
        return json_reply(self.agent.sandboxes.files.attached())

    # Numbers.

    async def _snapshot(self, request: Request) -> Reply:
        timeout = request.query.get("timeout")
        try:
            seconds = None if timeout is None else parse_duration(timeout)
        except FlagError as error:
            raise bad_request(f"Invalid timeout: {error}") from None
        if self.limit is not None:
            await self.limit.acquire()
        return json_reply(await self.metrics.snapshot(seconds))

    async def _prometheus(self, request: Request) -> Reply:
        return Reply(body=await self.metrics.prometheus(), content_type=CONTENT_TYPE)

    async def _system(self, request: Request) -> Reply:
        return json_reply(system_stats())

    # The log.

    async def _toggle(self, request: Request) -> Reply:
        """Without parameters it tells the level, as in libprocess."""
        level, duration = request.query.get("level"), request.query.get("duration")
        if level is None and duration is None:
            return Reply(body=f"{self.logs.level}\n".encode(), content_type="text/plain; charset=utf-8")
        if level is None or duration is None:
            raise bad_request(f"Expecting '{'level' if level is None else 'duration'}=value' in query")
        self.access.require(request.principal, Action.SET_LOG_LEVEL)
        try:
            self.logs.toggle(_number(level, "level"), parse_duration(duration))
        except MesocosmError as error:
            raise bad_request(str(error)) from None
        return Reply()


def _as_script(handler: Handler) -> Handler:
    """The endpoint with JSONP: with `jsonp=f`, its JSON comes as the script `f(…)`."""

    async def called_back(request: Request) -> Reply:
        name = request.query.get("jsonp")
        if name is not None and not _CALLBACK.fullmatch(name):
            raise bad_request(f"jsonp: {name!r} is no name of a function")
        reply = await handler(request)
        if name is None or reply.content_type != JSON:
            return reply
        return replace(reply, body=b"%s(%s)" % (name.encode(), reply.body), content_type="text/javascript")

    return called_back


def _executor(observed: Observed) -> dict[str, Any]:
    assert observed.statistics is not None
    names = {
        "executor_id": str(observed.container_id),
        "executor_name": "",
        "framework_id": "",
        "source": str(observed.container_id),
    }
    return {
        **names,
        **_names(observed),
        "statistics": to_json(convert.resource_statistics(observed.statistics)),
    }


def _container(observed: Observed) -> dict[str, Any]:
    entry: dict[str, Any] = {"container_id": observed.container_id.value, **_names(observed)}
    if observed.statistics is not None:
        entry["statistics"] = to_json(convert.resource_statistics(observed.statistics))
    if observed.status is not None:
        entry["status"] = to_json(convert.container_status(observed.status))
    return entry


def _names(observed: Observed) -> dict[str, str]:
    """Whose a container is, if it is that of an executor."""
    executor = observed.executor
    if executor is None:
        return {}
    return {
        "executor_id": executor.id,
        "executor_name": executor.info.name,
        "framework_id": executor.framework_id,
        "source": executor.info.source,
    }


def _is_asked_for(request: Request, entry: Mapping[str, Any]) -> bool:
    return all(entry.get(name) == request.query[name] for name in _IDS & request.query.keys())


def path_of(request: Request) -> str:
    """The file that is asked for. Raises RequestError."""
    if not (path := request.query.get("path")):
        raise bad_request("Expecting 'path=value' in query.\n")
    return path


def integer_of(request: Request, name: str) -> int | None:
    """A number of the query, if it is there. Raises RequestError."""
    text = request.query.get(name)
    return None if text is None else _number(text, name)


def _number(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"Failed to parse {name}: {text!r} is no number") from None


def switch_of(request: Request, name: str, *, default: bool = False) -> bool:
    """A parameter of the query that is true or false. Raises RequestError."""
    text = request.query.get(name, "true" if default else "false")
    if text not in ("true", "false"):
        raise bad_request(f"{name} is true or false, not {text!r}")
    return text == "true"
