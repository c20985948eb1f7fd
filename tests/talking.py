"""Streams of the agent's API as a client has them: what a container writes, and what is typed into it."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mesocosm.api import recordio
from mesocosm.api.json import from_json, to_json
from mesocosm.api.v1.agent import Call, ProcessIO
from tests.agent_process import AgentProcess, Answer
from tests.command_line import TIMEOUT

JSON, PROTOBUF, RECORDIO = "application/json", "application/x-protobuf", "application/recordio"


@dataclass(frozen=True, slots=True)
class Format:
    """How messages are written, and what an answer that goes on is called."""

    message: str = JSON
    stream: str | None = RECORDIO

    def encode(self, message: Mapping[str, Any]) -> bytes:
        if self.message == JSON:
            return json.dumps(message).encode()
        return from_json(dict(message), Call).SerializeToString()

    def decode(self, record: bytes) -> dict[str, Any]:
        if self.message == JSON:
            result: dict[str, Any] = json.loads(record)
            return result
        return to_json(ProcessIO.FromString(record))

    @property
    def accepting(self) -> dict[str, str]:
        if self.stream is None:
            return {"Accept": self.message}
        return {"Accept": self.stream, "Message-Accept": self.message}


AS_JSON = Format()


class Listening:
    """An answer that goes on, whose records are `ProcessIO` messages."""

    def __init__(self, agent: AgentProcess, call: Mapping[str, Any], form: Format, headers: Mapping[str, str]) -> None:
        self._form = form
        self._connection = http.client.HTTPConnection(agent.host, agent.port, timeout=TIMEOUT)
        self._connection.request(
            "POST", "/api/v1", form.encode(call), {"Content-Type": form.message, **form.accepting, **headers}
        )
        self._response = self._connection.getresponse()
        self.status, self.headers = self._response.status, dict(self._response.getheaders())
        self._decoder = recordio.Decoder()
        self._records: list[bytes] = []
        self.seen = {"STDOUT": bytearray(), "STDERR": bytearray()}

    @property
    def text(self) -> str:
        """The answer, of one that is no stream."""
        return self._response.read().decode()

    def record(self) -> dict[str, Any] | None:
        """The next message, when it is there; None at the end."""
        while not self._records:
            data = self._response.read1()
            if not data:
                return None
            self._records = self._decoder.feed(data)
        return self._form.decode(self._records.pop(0))

    def until(self, text: bytes, stream: str = "STDOUT") -> bytes | bytearray:
        """All that was written to a stream, as soon as `text` is in it."""
        while text not in self.seen[stream]:
            try:
                found = self._take()
            except TimeoutError:
                found = False
            assert found, f"no {text!r} in {self.seen}"
        return self.seen[stream]

    def rest(self) -> dict[str, bytearray]:
        """All that was written, at the end."""
        while self._take():
            pass
        return self.seen

    def _take(self) -> bool:
        message = self.record()
        if message is not None and message["type"] == "DATA":
            self.seen[message["data"]["type"]] += base64.b64decode(message["data"]["data"])
        return message is not None

    def close(self) -> None:
        """Goes away."""
        self._response.close()
        self._connection.close()


@contextmanager
def listening(
    agent: AgentProcess, kind: str, form: Format = AS_JSON, headers: Mapping[str, str] | None = None, **fields: Any
) -> Iterator[Listening]:
    """A call that is answered by a stream."""
    client = Listening(agent, {"type": kind, kind.lower(): fields}, form, headers or {})
    try:
        yield client
    finally:
        client.close()


class Typing:
    """ATTACH_CONTAINER_INPUT: a request that goes on."""

    def __init__(
        self,
        agent: AgentProcess,
        container_id: Mapping[str, Any],
        form: Format = AS_JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._form = form
        self._connection = http.client.HTTPConnection(agent.host, agent.port, timeout=TIMEOUT)
        self._connection.putrequest("POST", "/api/v1")
        given = {"Content-Type": RECORDIO, "Message-Content-Type": form.message, "Transfer-Encoding": "chunked"}
        for name, value in {**given, **(headers or {})}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self.send({"type": "CONTAINER_ID", "container_id": container_id})

    def send(self, asked: Mapping[str, Any]) -> None:
        call = {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": asked}
        record = recordio.encode(self._form.encode(call))
        self._connection.send(b"%x\r\n%b\r\n" % (len(record), record))

    def process_io(self, **message: Any) -> None:
        self.send({"type": "PROCESS_IO", "process_io": message})

    def say(self, data: bytes) -> None:
        """Types `data`; of a pipe, nothing is its end."""
        self.process_io(type="DATA", data={"type": "STDIN", "data": base64.b64encode(data).decode()})

    def resize(self, rows: int, columns: int) -> None:
        size = {"window_size": {"rows": rows, "columns": columns}}
        self.process_io(type="CONTROL", control={"type": "TTY_INFO", "tty_info": size})

    def beat(self) -> None:
        """Tells that somebody is there."""
        beat = {"interval": {"nanoseconds": 30_000_000_000}}
        self.process_io(type="CONTROL", control={"type": "HEARTBEAT", "heartbeat": beat})

    def finish(self) -> Answer:
        """Ends the request."""
        self._connection.send(b"0\r\n\r\n")
        return self.answer()

    def answer(self) -> Answer:
        """What the agent says in the end."""
        response = self._connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())

    def break_off(self) -> None:
        """Goes away at once: what was not taken yet is dropped (SO_LINGER, socket(7))."""
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=2i", 1, 0))
        self._connection.close()

    def close(self) -> None:
        """Goes away."""
        self._connection.close()


@contextmanager
def typing(
    agent: AgentProcess,
    container_id: Mapping[str, Any],
    form: Format = AS_JSON,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Typing]:
    """Who types into a container."""
    client = Typing(agent, container_id, form, headers)
    try:
        yield client
    finally:
        client.close()
