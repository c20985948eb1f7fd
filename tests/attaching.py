"""Clients that follow the output of containers, for tests."""

from __future__ import annotations

import base64
import http.client
import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from mesocosm.api.json import to_json
from mesocosm.api.recordio import Decoder
from mesocosm.api.v1.agent import ProcessIO
from tests.agent_process import AgentProcess, identity
from tests.command_line import TIMEOUT

JSON, PROTOBUF, RECORDIO = "application/json", "application/x-protobuf", "application/recordio"


class Attached:
    """The answer to ATTACH_CONTAINER_OUTPUT."""

    def __init__(self, response: http.client.HTTPResponse, media_type: str) -> None:
        self.response = response
        self.seen: dict[str, bytes] = {}
        self._media_type = media_type
        self._decoder = Decoder()
        self._records: deque[bytes] = deque()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        """The next message, as JSON."""
        while not self._records:
            if not (data := self.response.read1(1 << 16)):
                self._decoder.finish()
                raise StopIteration
            self._records.extend(self._decoder.feed(data))
        record = self._records.popleft()
        if self._media_type == JSON:
            message: dict[str, Any] = json.loads(record)
            return message
        return to_json(ProcessIO.FromString(record))

    def until(self, text: bytes, stream: str = "STDOUT") -> None:
        """Reads until what is `seen` of a stream ends with `text`."""
        while not self.seen.get(stream, b"").endswith(text):
            self._see(next(self))

    def rest(self) -> dict[str, bytes]:
        """All that is seen, when it has ended."""
        for message in self:
            self._see(message)
        return self.seen

    def _see(self, message: dict[str, Any]) -> None:
        if message["type"] == "DATA":
            name, data = message["data"]["type"], base64.b64decode(message["data"]["data"])
            self.seen[name] = self.seen.get(name, b"") + data


@contextmanager
def attached(
    agent: AgentProcess,
    name: str,
    nested_in: str | None = None,
    *,
    media_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Attached]:
    """A client that is attached to the output of a container."""
    call = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": identity(name, nested_in)}}
    wanted = {"Content-Type": JSON, "Accept": RECORDIO, "Message-Accept": media_type, **(headers or {})}
    connection = http.client.HTTPConnection(agent.host, agent.port, timeout=TIMEOUT)
    try:
        connection.request("POST", "/api/v1", json.dumps(call).encode(), wanted)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield Attached(response, media_type)
    finally:
        connection.close()


@contextmanager
def followed(agent: AgentProcess, path: str, **query: str | int) -> Iterator[http.client.HTTPResponse]:
    """The answer of /files/follow."""
    connection = http.client.HTTPConnection(agent.host, agent.port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/files/follow?{urlencode({'path': path, **query})}")
        yield connection.getresponse()
    finally:
        connection.close()
