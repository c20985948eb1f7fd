"""Who sends a request: HTTP Basic authentication (RFC 7617) by the credentials of `--http_credentials`, or a token."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesocosm.agent.secret_file import warn_if_exposed
from mesocosm.agent.tokens import ExecutorClaims, ExecutorTokens
from mesocosm.errors import FlagError, MesocosmError

_FLAG = "--http_credentials"


class Realm(enum.Enum):
    """What a principal authenticates for. The same credentials are good for each, but that of executors."""

    READ_ONLY = "mesos-agent-readonly"
    READ_WRITE = "mesos-agent-readwrite"
    EXECUTOR = "mesos-agent-executor"

    @property
    def flag(self) -> str:
        """The flag that has requests of the realm authenticated."""
        return f"--authenticate_http_{self.value.rpartition('-')[2]}"


class Unauthorized(MesocosmError):
    """A request without valid credentials. `challenge` is the `WWW-Authenticate` that its answer has to have."""

    def __init__(self, realm: Realm) -> None:
        super().__init__(f"credentials for {realm.value!r} are needed")
        self.challenge = f'{"Bearer" if realm is Realm.EXECUTOR else "Basic"} realm="{realm.value}"'


@dataclass(frozen=True, slots=True)
class Credential:
    """A principal, and the secret it proves itself with."""

    principal: str
    secret: str = field(repr=False)


class Authenticator:
    """Names the principal of a request, by its `Authorization` header."""

    def __init__(
        self,
        credentials: Iterable[Credential] = (),
        realms: Collection[Realm] = (),
        tokens: ExecutorTokens | None = None,
    ) -> None:
        """Requests of `realms` are authenticated, and with `tokens` those of executors; others are not.

        Raises FlagError if nobody could be.
        """
        self._tokens = tokens
        # Digests have one length, so that a comparison takes one time; and no secret stays in memory.
        self._digests = {credential.principal: _digest(credential.secret) for credential in credentials}
        self._nobody = os.urandom(hashlib.sha256().digest_size)
        self._realms = {realm.value for realm in realms}
        if realms and not self._digests:
            flag = next(iter(realms)).flag
            raise FlagError(f"{flag}: there are no credentials to authenticate with", f"give {_FLAG} a file")

    def authenticate_executor(self, realm: Realm, authorization: str | None) -> ExecutorClaims | None:
        """The executor that sends a request; None where it is none. Raises Unauthorized where it has to be one."""
        if self._tokens is None or realm is Realm.READ_ONLY:
            return None
        claims = self._tokens.read(authorization)
        if claims is None and realm is Realm.EXECUTOR:
            raise Unauthorized(realm)
        return claims

    def authenticate(self, realm: Realm, authorization: str | None) -> str | None:
        """The principal of the request; None where `realm` does not need one. Raises Unauthorized."""
        if realm.value not in self._realms:
            return None
        principal, secret = _basic(authorization) or ("", "")
        if not hmac.compare_digest(_digest(secret), self._digests.get(principal, self._nobody)):
            raise Unauthorized(realm)
        return principal


def load_credentials(path: Path) -> tuple[Credential, ...]:
    """The credentials in a file of JSON, or of lines `principal secret`. Raises FlagError, which tells no secret.

    The JSON is `{"credentials": [{"principal": "…", "secret": "…"}, …]}`.
    """
    file = _File(_FLAG, path)
    credentials: dict[str, Credential] = {}
    for place, principal, secret in _several(file):
        if not (principal and secret) or ":" in principal:
            raise file.error(
                f"{place} is no credential", "give a principal without a colon, and a secret; neither is empty"
            )
        if principal in credentials:
            raise file.error(f"{place} is the second one for {principal!r}", "remove one of them")
        credentials[principal] = Credential(principal, secret)
    if not credentials:
        raise FlagError(f"{_FLAG}: {path} has no credentials", "give at least one")
    return tuple(credentials.values())


def load_credential(path: Path) -> Credential:
    """The one credential in a file of JSON, or of a line `principal secret`. Raises FlagError, which tells no secret.

    The JSON is `{"principal": "…", "secret": "…"}`.
    """
    file = _File("--credential", path)
    content = file.json()
    if content is not None:
        found = [("the file", _text(content, "principal"), _text(content, "secret"))]
    else:
        found = list(file.lines())
    if len(found) != 1 or not all(found[0]):
        raise file.error("this is no credential", 'write a line PRINCIPAL SECRET, or {"principal": …, "secret": …}')
    return Credential(*found[0][1:])


class _File:
    """What is in a file that a flag names. Raises FlagError where it cannot be read."""

    def __init__(self, flag: str, path: Path) -> None:
        self._place = f"{flag}: {path}"
        try:
            self._text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise self.error(str(error.strerror)) from None
        except UnicodeDecodeError:
            raise FlagError(f"{self._place} is no text") from None
        warn_if_exposed(path, flag)

    def error(self, reason: str, hint: str | None = None) -> FlagError:
        return FlagError(f"{self._place}: {reason}", hint)

    def json(self) -> Any:
        """The content; None for what is no object of JSON."""
        if not self._text.lstrip().startswith("{"):
            return None
        try:
            return json.loads(self._text)
        except json.JSONDecodeError as error:
            raise self.error(f"line {error.lineno}, column {error.colno}: {error.msg}") from None

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """The place, the principal and the secret of each; empty texts for what is no such line."""
        for number, line in enumerate(self._text.splitlines(), 1):
            if line.strip():
                principal, *rest = line.split()
                yield f"line {number}", principal, rest[0] if len(rest) == 1 else ""


def _several(file: _File) -> Iterator[tuple[str, str, str]]:
    content = file.json()
    if content is None:
        yield from file.lines()
        return
    entries = content.get("credentials")
    if not isinstance(entries, list):
        raise file.error("there is no list 'credentials'")
    for number, entry in enumerate(entries):
        yield f"credentials[{number}]", _text(entry, "principal"), _text(entry, "secret")


def _text(entry: Any, name: str) -> str:
    """A field of JSON that is a text; empty for what is none."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def _basic(authorization: str | None) -> tuple[str, str] | None:
    """The principal and the secret in a header `Basic …`; None for anything else."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        principal, colon, secret = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (principal, secret) if colon else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
