"""Showing a registry who asks: by Basic authentication, or by a token that another server gives out.

Source: RFC 9110, 11; github.com/distribution/distribution, docs/spec/auth/token.md and oauth.md.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from yarl import URL

from mesocosm.images.credentials import Credentials
from mesocosm.images.registry.answers import RegistryError
from mesocosm.images.registry.names import is_private

_CLIENT = "mesocosm"
_SCHEME = re.compile(r"\s*([A-Za-z]+)\s+")
_PARAMETER = re.compile(r'\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?')

Ask = Callable[[URL, Mapping[str, str], Mapping[str, str] | None], Awaitable[bytes]]
"""Asks a server for what is at a URL, with headers, and the fields of a form, if that is what to send."""


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class Authentication:
    """What to show one registry to pull from one repository; `scope` is the right to do so."""

    def __init__(self, host: str, scope: str, credentials: Credentials | None, ask: Ask) -> None:
        self.credentials = credentials
        self.header: str | None = None
        """The value of the `Authorization` header: None until the registry asks for it."""
        self._host = host
        self._scope = scope
        self._ask = ask
        self._lock = asyncio.Lock()

    async def meet(self, challenges: Sequence[str], shown: str | None) -> bool:
        """Does what an answer of 401 asks for, after `shown` was not enough. Raises RegistryError.

        False if nothing more can be done.
        """
        async with self._lock:
            if self.header != shown:
                return True  # Another request has done so meanwhile.
            for scheme, parameters in map(_parse, challenges):
                if scheme == "bearer":
                    self.header = f"Bearer {await self._token(parameters)}"
                    return True
                if scheme == "basic" and self.credentials is not None and self.credentials.username:
                    header = _basic(self.credentials)
                    changed, self.header = header != shown, header
                    return changed
        return False

    async def _token(self, parameters: Mapping[str, str]) -> str:
        realm = URL(parameters.get("realm", ""))
        if realm.scheme not in ("http", "https") or not realm.host:
            raise RegistryError(f"{self._host} does not say where tokens are to be had")
        if self.credentials is not None and not is_private(realm):
            raise RegistryError(f"{self._host} wants the credentials to be sent to {realm.host} in the open, by http")
        wanted = {"scope": self._scope, "client_id": _CLIENT}
        if service := parameters.get("service"):
            wanted["service"] = service
        data = await self._ask_for_token(realm, wanted)
        try:
            answer = msgspec.json.decode(data, type=_Token)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            answer = _Token()
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryError(f"{realm.host}, which gives out tokens for {self._host}, has given none")
        return token

    async def _ask_for_token(self, realm: URL, wanted: dict[str, str]) -> bytes:
        if self.credentials is not None and self.credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": self.credentials.identity_token, **wanted}
            return await self._ask(realm, {}, form)
        headers = {}
        if self.credentials is not None:
            wanted["account"] = self.credentials.username
            headers["Authorization"] = _basic(self.credentials)
        return await self._ask(realm.update_query(wanted), headers, None)


def _basic(credentials: Credentials) -> str:
    text = f"{credentials.username}:{credentials.password}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def _parse(challenge: str) -> tuple[str, dict[str, Any]]:
    """The scheme of a challenge, in lower case, and its parameters."""
    match = _SCHEME.match(f"{challenge} ")
    if match is None:
        return "", {}
    found = _PARAMETER.findall(challenge[match.end() :])
    return match[1].lower(), {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in found}
