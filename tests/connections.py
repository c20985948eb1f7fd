"""Connections that tests hold in their hands, to and from an agent."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.agent_process import AgentProcess
from tests.command_line import TIMEOUT


@contextmanager
def connected(agent: AgentProcess) -> Iterator[http.client.HTTPConnection]:
    """One connection, for any number of requests."""
    connection = http.client.HTTPConnection(agent.host, agent.port, timeout=TIMEOUT)
    connection.auto_open = 0  # Nothing is sent on another connection unnoticed.
    connection.connect()
    try:
        yield connection
    finally:
        connection.close()


class SilentServer:
    """An HTTP server that says nothing by itself: who fetches from it, waits."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"

    def accept(self) -> socket.socket:
        """The connection of who asks for something, when he has asked."""
        connection, _ = self._listening.accept()
        connection.settimeout(TIMEOUT)
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            assert data, "it went away"
            head += data
        return connection


@contextmanager
def silent_server() -> Iterator[SilentServer]:
    """It listens until the end, after which nobody can connect."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT)
        yield SilentServer(listening)
