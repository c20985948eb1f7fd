"""Which handler a path means. As in libprocess, the longest registered part of a path counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from mesocosm.agent.authentication import Realm
from mesocosm.agent.http.reply import Reply, RequestError
from mesocosm.agent.tokens import ExecutorClaims


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler gets to know of a request. Header names are in any case. `executor` is one that proved itself."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    principal: str | None
    remote: str | None
    """The address that it came from; None on a Unix socket."""
    read: Callable[[], Awaitable[bytes]]
    """Returns the whole body. Raises RequestError for one that is too large."""
    chunks: Callable[[], AsyncIterator[bytes]]
    """The body as it comes, for one that may never end."""
    executor: ExecutorClaims | None = None


Handler = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint: open to all without a `realm`."""

    path: str
    handler: Handler
    realm: Realm | None = Realm.READ_ONLY
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    summary: str = ""
    """One sentence for `/help`, where what has none is not."""


AGENT = "/slave(1)"
"""The name of the agent among the actors of its process, whose endpoints are also found without it."""


class Routes:
    """All endpoints by their paths."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def add(self, route: Route, *, of_agent: bool = False) -> None:
        """An endpoint, with another path below /slave(1) if it is the agent's own."""
        self._routes[route.path] = route
        if of_agent:
            self._routes[AGENT + route.path] = route

    def remove(self, path: str) -> None:
        """Forgets an endpoint."""
        del self._routes[path]

    def find(self, path: str, method: str) -> Route:
        """The route of the longest part of `path` that is registered. Raises RequestError: 404, 405.

        503 as long as there is none at all: the agent listens before it knows the name of its address.
        """
        if not self._routes:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Agent has not started yet")
        part = path.rstrip("/") or path
        while part and part not in self._routes:
            part = part.rpartition("/")[0].rstrip("/")  # Nothing is below the page at `/`.
        if not part:
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is nothing at {path!r}")
        route = self._routes[part]
        if method not in route.methods:
            allowed = sorted(route.methods - {"HEAD"})
            expected = ", ".join(f"'{name}'" for name in allowed)
            text = f"Expecting one of {{ {expected} }}, but received '{method}'"
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, text, {"Allow": ", ".join(allowed)})
        return route

    def by_path(self) -> Mapping[str, Route]:
        """Every route by its path."""
        return self._routes
