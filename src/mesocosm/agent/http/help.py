"""`/help`: every endpoint, below the part that its path begins with, as libprocess lists its actors."""

from __future__ import annotations

from collections.abc import Mapping

from mesocosm.agent.http.reply import TEXT, Reply, bad_request, json_reply
from mesocosm.agent.http.routes import AGENT, Request, Route, Routes

MARKDOWN = "text/x-markdown"


class Help:
    """The pages about the endpoints that `routes` has when they are asked for."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def handle(self, request: Request) -> Reply:
        """Answers `/help`, `/help/ID` and `/help/ID/NAME`. Raises RequestError, 400, for what there is not."""
        pages = self._pages()
        name, _, endpoint = request.path.removeprefix("/help").strip("/").partition("/")
        if name and (name not in pages or (endpoint and f"/{endpoint}" not in pages[name])):
            raise bad_request(f"No help available for '/{name}{'/' if endpoint else ''}{endpoint}'.")
        if not name and request.query.get("format") == "json":
            return json_reply(_processes(pages))
        if endpoint:
            text = pages[name][f"/{endpoint}"]
        elif name:
            text = _list(f"## `/{name}` ##", {_path(name, part): _path(name, part) for part in pages[name]})
        else:
            text = _list("## HELP", {name: f"help/{name}" for name in pages})
        browser = "text/html" in request.headers.get("Accept", "")  # It would save Markdown as a file.
        return Reply(body=text.encode(), content_type=TEXT if browser else MARKDOWN)

    def _pages(self) -> dict[str, dict[str, str]]:
        """The page of each endpoint by its name, below that of its part. The agent's are found with its name."""
        pages: dict[str, dict[str, str]] = {}
        every = self._routes.by_path()
        for path, route in sorted(every.items()):
            if route.summary and AGENT + path not in every:
                name, slash, endpoint = path[1:].partition("/")
                pages.setdefault(name, {})[slash + endpoint or "/"] = _page(path, route)
        return pages


def _processes(pages: Mapping[str, Mapping[str, str]]) -> dict[str, list[dict[str, object]]]:
    return {
        "processes": [
            {"id": name, "endpoints": [{"name": part, "text": text} for part, text in endpoints.items()]}
            for name, endpoints in pages.items()
        ]
    }


def _list(title: str, links: Mapping[str, str]) -> str:
    """A page of links, by the paths that they are about without the slash."""
    lines = [f"> [/{path}][{path}]" for path in links]
    return "\n".join([title, *lines, "", *(f"[{path}]: {target}" for path, target in links.items()), ""])


def _path(name: str, endpoint: str) -> str:
    return name + endpoint.rstrip("/")


def _page(path: str, route: Route) -> str:
    paths = [path.removeprefix(AGENT), path] if path.startswith(f"{AGENT}/") else [path]
    usage = "".join(f">        {path}\n" for path in paths)
    who = "Everybody may ask." if route.realm is None else f"Who is known, with `{route.realm.flag}`."
    return (
        f"### USAGE ###\n{usage}\n### TL;DR; ###\n{route.summary}\n\n"
        f"### METHODS ###\n{', '.join(sorted(route.methods))}\n\n### AUTHENTICATION ###\n{who}\n"
    )
