"""Where an agent is, who asks it, and how both know one another."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mesocosm.api.headers import EXIT_STATUS
from mesocosm.dataclass import dataclass, field
from mesocosm.errors import FlagError, MesocosmError

if TYPE_CHECKING:
    import ssl

DEFAULT_SOCKET = Path("/run/mesocosm/operator.sock")
"""Where an agent of this machine is looked for first, by whom it listens to there."""
DEFAULT_URL = "http://127.0.0.1:5051"
CONNECT_SECONDS = 10.0
"""How long a connection may take to be made."""
_PORT = 5051
_LONGEST = 400
"""Characters of a reason, which is one line."""
_OTHER = "say where one is by --agent or MESOCOSM_AGENT"
_HINT = "write http://HOST:PORT, https://HOST:PORT, or the path of its Unix socket"


class AgentError(MesocosmError):
    """The agent cannot be reached, or refuses a request: with the HTTP `status`, None if it has not answered."""

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        status: int | None = None,
        exit_status: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.exit_status = exit_status

    def without(self, prefix: str) -> AgentError:
        """The same where it need not be said of which container it is."""
        return AgentError(self.message.removeprefix(prefix), self.hint, self.status, self.exit_status)


class LostError(AgentError):
    """The agent went away while it was asked."""


@dataclass(frozen=True, slots=True)
class Trust:
    """TLS: whose certificates an agent may have (None: of whom the system trusts), and what the client itself shows."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Raises FlagError where the files are no certificates, or no key to them."""
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.authorities)
        except (OSError, ssl.SSLError) as error:
            raise FlagError(f"{self.authorities} has no certificates of authorities: {_reason(error)}") from None
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                files = " and ".join(str(file) for file in (self.certificate, self.key) if file is not None)
                raise FlagError(f"{files}: no certificate with its key: {_reason(error)}") from None
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """An agent at `host` and `port`, by TLS if `trust` is there, or at a Unix `socket`."""

    host: str
    port: int
    socket: Path | None = None
    trust: Trust | None = None
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """A principal and its secret."""

    @classmethod
    def parse(cls, text: str, credentials: tuple[str, str] | None = None, trust: Trust | None = None) -> Address:
        """Of a URL, which may have `user:password@` in it, or of the path of a Unix socket. Raises AgentError."""
        if text.startswith(("/", "./", "unix:")):
            path = Path(text.removeprefix("unix:").removeprefix("//"))
            return cls("localhost", 0, path, credentials=credentials)
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query:
            raise AgentError(f"{text!r} is no address of an agent", _HINT)
        if parts.username and parts.password is not None:
            credentials = credentials or (unquote(parts.username), unquote(parts.password))
        secure = (trust or Trust()) if parts.scheme == "https" else None
        return cls(host, _PORT if port is None else port, trust=secure, credentials=credentials)

    @property
    def url(self) -> str:
        """What paths are appended to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.trust is None else 'https'}://{host}" + (f":{self.port}" if self.port else "")

    @property
    def headers(self) -> dict[str, str]:
        """What each request says besides what it is about."""
        headers = {"Accept": "application/json"}
        if self.credentials is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(self.credentials).encode()).decode()}"
        return headers

    def __str__(self) -> str:
        return self.url if self.socket is None else str(self.socket)

    def unreachable(self, error: Exception) -> AgentError:
        """Where nobody answers, or not in HTTP, or with a certificate that nobody knows."""
        return AgentError(f"no agent answers at {self}: {_reason(error)}", _hint(self, error))

    def lost(self, error: Exception) -> LostError:
        """Where an answer does not come, or breaks off."""
        return LostError(f"the connection to {self} is lost: {_reason(error)}")

    def no_agent(self, reason: str) -> AgentError:
        """Where something answers as no agent of Mesocosm does."""
        return AgentError(f"{self} is no agent of Mesocosm: {reason}", _OTHER)

    def refusal(self, status: int, reason: str, text: str, header: Callable[[str], str | None]) -> AgentError:
        """What is raised for an answer that is no success: what the agent says, if it says anything.

        A page for people is of some other server, and not quoted.
        """
        is_page = (header("Content-Type") or "").startswith("text/html")
        said = "" if is_page else " ".join(text.split())[:_LONGEST]
        if status == 401:
            who = "the credentials are not those of any principal" if self.credentials else "it asks for credentials"
            return AgentError(f"{self}: {who}", "name a file with a principal and its secret by --credential", status)
        if status == 403:
            who = "this" if self.credentials is None else f"this for {self.credentials[0]!r}"
            return AgentError(f"{self} does not allow {who}{f': {said}' if said else ''}", status=status)
        executed = header(EXIT_STATUS) or ""
        exit_status = int(executed) if executed.isdecimal() else None
        return AgentError(said or f"{self}: {status} {reason}", status=status, exit_status=exit_status)


def default_address(environment: Mapping[str, str] = os.environ) -> str:
    """The agent that is meant where nobody names one: by MESOCOSM_AGENT, or that of this machine."""
    named = environment.get("MESOCOSM_AGENT")
    return named or (str(DEFAULT_SOCKET) if os.access(DEFAULT_SOCKET, os.W_OK) else DEFAULT_URL)


def _reason(error: Exception) -> str:
    """What an error of the network is, without its numbers."""
    verified = getattr(error, "verify_message", None)
    if verified:
        return f"its certificate cannot be trusted: {verified}"
    if isinstance(error, ConnectionError | FileNotFoundError | PermissionError) and error.errno:
        return os.strerror(error.errno)  # asyncio has a text of its own.
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _hint(address: Address, error: Exception) -> str | None:
    if getattr(error, "verify_message", None):
        return "name the file of its authority by --ca-file"
    return "start one, or say where it is by --agent or MESOCOSM_AGENT" if isinstance(error, OSError) else None
