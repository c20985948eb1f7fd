"""An agent that is asked one thing at a time, by http.client: for commands, which so load in no time."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from mesocosm.api.headers import TRANSIENT
from mesocosm.api.recordio import encode
from mesocosm.client import Json
from mesocosm.client.address import CONNECT_SECONDS, Address, AgentError, LostError
from mesocosm.client.answers import Messages, decoded, decoded_object

_ANSWER = 60.0
"""Seconds that an answer may take for which the agent has to wait for nothing."""
_MISSED = 4
"""Heartbeats that may be missing."""
_CHUNK = 1 << 16
_JSON, _RECORDS = "application/json", "application/recordio"

_ABSENCE, _PAUSE = 60.0, 0.5
"""Seconds that the start of another agent may take, and between two looks for it."""
_ABSENT = (None, HTTPStatus.SERVICE_UNAVAILABLE)
"""What it answers meanwhile: nothing, or that it is not ready."""

Result = TypeVar("Result")
Body = bytes | Iterator[bytes] | None


class Connection:
    """A connection to one agent, which is made when it is needed, and kept."""

    def __init__(self, address: Address, patience: float = _ANSWER) -> None:
        """`patience` is how many seconds an answer may take. Raises FlagError for certificates that are none."""
        self._patience = patience
        self.address = address
        self._http = _connection(address)
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def call(self, kind: str, fields: Json | None = None, *, patient: bool = False) -> Json:
        """The answer to a call of the v1 API, without its envelope; one that is `patient` may take any time.

        Raises AgentError.
        """
        message = {"type": kind, **({} if fields is None else {kind.lower(): fields})}
        body = json.dumps(message).encode()
        with self._answer("POST", "/api/v1", body, {"Content-Type": _JSON}, patient=patient) as answer:
            data = self._read(answer)
        found: Json = (decoded_object(self.address, data) if data else {}).get(kind.lower(), {})
        return found

    def launch(self, fields: Json) -> bool:
        """Launches a container by LAUNCH_CONTAINER; False if there is one of that name. Raises AgentError."""
        body = json.dumps({"type": "LAUNCH_CONTAINER", "launch_container": fields}).encode()
        with self._answer("POST", "/api/v1", body, {"Content-Type": _JSON}, patient=True) as answer:
            if self._read(answer):
                raise self.address.no_agent("it answers something to a launch")
            return answer.status != HTTPStatus.ACCEPTED

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """What an endpoint answers, of JSON. Raises AgentError."""
        with self._answer("GET", _target(path, query)) as answer:
            return decoded(self.address, self._read(answer))

    def download(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """The body of what an endpoint answers, piece by piece as it comes. Raises AgentError."""
        with self._answer("GET", _target(path, query), patient=True) as answer:
            while data := self._read_some(answer):
                yield data

    def stream(self, kind: str, fields: Json) -> Iterator[Json]:
        """The messages that a call is answered with, which has succeeded when this returns. Raises AgentError.

        Of a session that ends because they are not read to their end, nothing is kept.
        """
        body = json.dumps({"type": kind, kind.lower(): fields}).encode()
        headers = {"Content-Type": _JSON, "Accept": _RECORDS, "Message-Accept": _JSON, TRANSIENT: "true"}
        opened = contextlib.ExitStack()
        answer = opened.enter_context(self._answer("POST", "/api/v1", body, headers, patient=True))

        def messages() -> Iterator[Json]:
            found, data = Messages(self.address), b"-"
            with opened:
                while data:
                    data = self._read_some(answer)
                    for message in found.feed(data):
                        self._expect_next(message)
                        yield message

        return messages()

    def _expect_next(self, message: Json) -> None:
        """Takes the agent for gone if it sends nothing for some time, once it has said how often it would."""
        interval = message.get("control", {}).get("heartbeat", {}).get("interval", {}).get("nanoseconds")
        if interval and self._socket is not None:
            self._socket.settimeout(_MISSED * interval / 1e9)

    def send(self, kind: str, messages: Iterator[Json]) -> None:
        """Sends calls of one kind as they come; returns at their end, or when the agent wants no more of them.

        Raises AgentError.
        """
        headers = {"Content-Type": _RECORDS, "Message-Content-Type": _JSON, "Transfer-Encoding": "chunked"}
        records = (encode(json.dumps({"type": kind, kind.lower(): message}).encode()) for message in messages)
        with self._answer("POST", "/api/v1", records, headers, patient=True) as answer:
            self._read(answer)

    def answering(self) -> list[int]:
        """What is readable when the agent answers before it was sent all; nothing by TLS, which reads more."""
        return [] if self._socket is None or self.address.trust is not None else [self._socket.fileno()]

    def abort(self) -> None:
        """Ends what another thread waits for, as if the agent had gone away."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # It has ended already.
                # Not the method of an SSLSocket, which would take that apart while somebody reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        target: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        patient: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request. Raises AgentError unless it is a success."""
        answer = self._ask(method, target, body, self.address.headers | dict(headers or {}), patient=patient)
        try:
            if answer.status >= 300:
                text = self._read(answer).decode(errors="replace")
                raise self.address.refusal(answer.status, answer.reason, text, answer.headers.get)
            yield answer
        finally:
            if not answer.isclosed():  # Somebody has seen enough of it.
                self._http.close()

    def _ask(
        self, method: str, target: str, body: Body, headers: Mapping[str, str], *, patient: bool
    ) -> http.client.HTTPResponse:
        was_kept = self._http.sock is not None
        self._connect(patient=patient)
        try:
            with contextlib.suppress(BrokenPipeError):  # The agent may have answered before it had seen all.
                self._http.request(method, target, body, headers, encode_chunked=True)
            return self._http.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            if not isinstance(error, ConnectionError):
                raise self.address.unreachable(error) from None
            if was_kept:  # The agent has closed it meanwhile, or is another.
                return self._ask(method, target, body, headers, patient=patient)
            raise self.address.lost(error) from None

    def _connect(self, *, patient: bool) -> None:
        try:
            if self._http.sock is None:
                self._http.connect()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise self.address.unreachable(error) from None
        self._socket = self._http.sock
        self._socket.settimeout(None if patient else self._patience)

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None

    def _read_some(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> AgentError:
        self._http.close()
        return self.address.lost(error)


def persistently(action: Callable[[], Result], *, was_lost: bool = False) -> Result:
    """What `action` returns; tried again where the agent went away meanwhile, until another one has taken its place.

    Raises AgentError.
    """
    if not was_lost:
        try:
            return action()
        except LostError:
            pass
    deadline = time.monotonic() + _ABSENCE
    while True:
        time.sleep(_PAUSE)
        try:
            return action()
        except AgentError as error:
            if error.status not in _ABSENT or time.monotonic() > deadline:
                raise


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


def _connection(address: Address) -> http.client.HTTPConnection:
    if address.socket is not None:
        return _UnixConnection(str(address.socket), CONNECT_SECONDS)
    if address.trust is None:
        return http.client.HTTPConnection(address.host, address.port, timeout=CONNECT_SECONDS)
    return http.client.HTTPSConnection(
        address.host, address.port, timeout=CONNECT_SECONDS, context=address.trust.context()
    )


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path
