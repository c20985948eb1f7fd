"""The page at `/`: files that are the same for everybody. What they show they ask the API for, as their user."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from mesocosm.agent import web
from mesocosm.agent.http.reply import Reply, not_found
from mesocosm.agent.http.routes import Request, Route, Routes

_ROOT = Path(web.__file__).parent
_PREFIX = "/web/"
_INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is shown of the directory. It does not depend on the machine, as that of the module mimetypes does."""

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # The terminal's library writes rules for its colours and its font.
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""No script but these files, nothing from elsewhere and nothing to elsewhere, and no frame around it."""


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    content_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> _File:
        data = path.read_bytes()
        return cls(data, _TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')


class Page:
    """The files of the page, each read when it is first asked for."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._files: dict[str, _File] = {}

    def add_to(self, routes: Routes) -> None:
        """Puts the page at `/`, and what it consists of below `/web`. Both are for everybody."""
        routes.add(Route("/", self.handle, realm=None, summary=""))
        routes.add(Route(_PREFIX.rstrip("/"), self.handle, realm=None))

    async def handle(self, request: Request) -> Reply:
        """Answers GET with one of the files. Raises RequestError, 404."""
        name = _INDEX if request.path == "/" else request.path.removeprefix(_PREFIX)
        file = self._files.get(name)
        if file is None:
            file = await asyncio.to_thread(self._read, name)
        headers = {**HEADERS, "ETag": file.tag}
        if request.headers.get("If-None-Match") == file.tag:
            return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
        return Reply(body=file.data, content_type=file.content_type, headers=headers)

    def _read(self, name: str) -> _File:
        """Nothing but what is there by its own name, so that no path leads elsewhere."""
        present = {str(path.relative_to(self._root)): path for path in self._root.rglob("*") if path.suffix in _TYPES}
        if name not in present:
            raise not_found(f"there is nothing at {_PREFIX + name!r}")
        return self._files.setdefault(name, _File.read(present[name]))
