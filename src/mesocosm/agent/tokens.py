"""Tokens by which executors prove who they are: JSON Web Tokens (RFC 7519), signed with the key of the agent (HS256).

As Mesos's `JWTSecretGenerator`: a token says the framework, the executor and the container, and has no end, as an
executor may outlive many agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesocosm.agent.secret_file import warn_if_exposed
from mesocosm.errors import FlagError

_FLAG = "--jwt_secret_key"
_ALGORITHM = "HS256"
_SHORTEST = 32
"""Bytes that a key has at least (RFC 7518, 3.2)."""


class ExecutorName(str):
    """The principal that an executor is: it may do with the containers in its own what the access lists are not about.

    Whoever makes one has seen to it that no others are meant.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ExecutorClaims:
    """Who an executor is, as its token proves."""

    framework_id: str
    executor_id: str
    container_id: str

    @property
    def principal(self) -> ExecutorName:
        """Its name for lists and logs."""
        return ExecutorName(f"executor {self.executor_id} of {self.framework_id}")


class ExecutorTokens:
    """Makes and reads tokens."""

    def __init__(self, key: bytes) -> None:
        import jwt  # Much to load for who has no tokens.

        self._jwt = jwt
        self._key = key

    @classmethod
    def load(cls, path: Path) -> ExecutorTokens:
        """With the key in a file. Raises FlagError."""
        try:
            key = path.read_bytes()
        except OSError as error:
            raise FlagError(f"{_FLAG}: {path}: {error.strerror}") from None
        warn_if_exposed(path, _FLAG)
        if len(key) < _SHORTEST:
            raise FlagError(f"{_FLAG}: {path} has {len(key)} bytes", f"a key has {_SHORTEST} at least")
        return cls(key)

    def make(self, claims: ExecutorClaims) -> str:
        """The token of an executor."""
        content = {"fid": claims.framework_id, "eid": claims.executor_id, "cid": claims.container_id}
        return self._jwt.encode(content, self._key, _ALGORITHM)

    def read(self, authorization: str | None) -> ExecutorClaims | None:
        """Whom a header `Bearer …` proves; None for any other."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            content = self._jwt.decode(token.strip(), self._key, [_ALGORITHM])
        except self._jwt.InvalidTokenError:
            return None
        names = ("fid", "eid", "cid")
        if not all(isinstance(content.get(name), str) for name in names):
            return None
        return ExecutorClaims(*(str(content[name]) for name in names))
