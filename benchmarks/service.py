"""Mesocosm's agent as the benchmarks use it: a process of its own, which is called over HTTP."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ours
from workplace import Workplace

_HOST = "127.0.0.1"
_PATIENCE = 60.0
"""Seconds in which the agent has to answer."""

_CHUNK = 1 << 16
"""Bytes that are received at once. A megabyte of them would be mapped for each answer, and given back."""

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)

_numbers = itertools.count()


@dataclass(frozen=True)
class Answer:
    """What the agent answered."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


class Client:
    """Requests to the agent, on one connection that is kept, or on a new one for each if not `keep`.

    It does as little as a client can, so that it is the agent that is measured. Requests raise OSError.
    """

    def __init__(self, port: int, *, keep: bool = True) -> None:
        self._port = port
        self._keep = keep
        self._socket: socket.socket | None = None

    def get(self, path: str) -> Answer:
        """Any path."""
        return self._ask(_request("GET", path))

    def call(self, kind: str, **fields: Any) -> Answer:
        """A call of the v1 API. Raises RuntimeError for one that is refused."""
        return self._called(_call(kind, **fields))

    def launch(self, command: Sequence[str]) -> dict[str, str]:
        """Launches a container that runs `command`; returns its id."""
        container_id = _new_id()
        self._called(_launch(container_id, command))
        return container_id

    def launch_to_exit(self, command: Sequence[str]) -> float:
        """The seconds from the request to launch a container until the answer that it has ended.

        Both requests are written before, and the answers looked into afterwards.
        """
        container_id = _new_id()
        launch, wait = _launch(container_id, command), _call("WAIT_CONTAINER", container_id=container_id)
        start = time.perf_counter()
        self._called(launch)
        ended = self._called(wait)
        elapsed = time.perf_counter() - start
        if ended.json["wait_container"].get("exit_status") != 0:
            raise RuntimeError(f"{container_id}: {ended.json}")
        self.call("REMOVE_CONTAINER", container_id=container_id)
        return elapsed

    def list_containers(self) -> Answer:
        """GET_CONTAINERS."""
        return self.call("GET_CONTAINERS", show_standalone=True)

    def containers(self) -> int:
        """How many run; -1 before the agent has recovered, or while it is not there. Nothing is measured for it."""
        try:
            known = self.get("/overview?statistics=false")
        except ConnectionError:
            return -1
        if known.status != 200:
            return -1
        return sum(container["state"] == "RUNNING" for container in known.json["containers"])

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self.get("/health").status == 200
        except ConnectionError:
            return False

    def close(self) -> None:
        """Closes the connection; the next request makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _called(self, request: bytes) -> Answer:
        answer = self._ask(request)
        if answer.status != 200:
            raise RuntimeError(f"{request.splitlines()[-1].decode()}: {answer.status} {answer.body.decode()}")
        return answer

    def _ask(self, request: bytes) -> Answer:
        with contextlib.ExitStack() as undone:
            undone.callback(self.close)
            if self._socket is None:
                self._socket = socket.create_connection((_HOST, self._port), timeout=_PATIENCE)
            self._socket.sendall(request)
            answer = _receive(self._socket)
            if self._keep:
                undone.pop_all()
        return answer


def _new_id() -> dict[str, str]:
    return {"value": f"benchmark-{next(_numbers)}"}


def _launch(container_id: dict[str, str], command: Sequence[str]) -> bytes:
    scalars = {"cpus": 1.0, "mem": 64.0}
    return _call(
        "LAUNCH_CONTAINER",
        container_id=container_id,
        command={"shell": False, "value": command[0], "arguments": command},
        resources=[{"name": name, "type": "SCALAR", "scalar": {"value": amount}} for name, amount in scalars.items()],
    )


def _call(kind: str, **fields: Any) -> bytes:
    return _request("POST", "/api/v1", json.dumps({"type": kind, kind.lower(): fields}))


def _request(method: str, path: str, body: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


def _receive(connection: socket.socket) -> Answer:
    """An answer whose length is in its head, as it is in all that are not streams. Raises OSError."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _chunk(connection)
    status, length = int(data[9:12]), _LENGTH.search(data, 0, end)
    size = end + 4 + (0 if length is None else int(length[1]))
    while len(data) < size:
        data += _chunk(connection)
    return Answer(status, bytes(data[end + 4 :]))


def _chunk(connection: socket.socket) -> bytes:
    if not (chunk := connection.recv(_CHUNK)):
        raise ConnectionError("the agent has closed the connection")
    return chunk


class Service:
    """The agent. What it needs of this machine is its own, and removed in the end."""

    def __init__(self, place: Workplace) -> None:
        self._root = f"mesocosm-benchmark-agent-{os.getpid()}"
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def start(self) -> None:
        """Executes it, and returns at once."""
        flags = {
            "work_dir": self._place.work / "agent",
            "runtime_dir": self._place.state / "agent",
            "cgroups_root": self._root,
            "fetcher_cache_dir": self._place.work / "agent-fetch",
            "isolation": ours.ISOLATION,
            "port": self.port,
            "logging_level": "WARNING",
        }
        argv = [sys.executable, "-m", "mesocosm", "agent", *(f"--{name}={value}" for name, value in flags.items())]
        # As that of an installed program, its code is compiled, by the first start.
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self._place.work / "compiled")}
        self._process = subprocess.Popen(argv, env={**os.environ, **compiled})

    def start_and_await(self, count: int) -> None:
        """Executes it, and returns when it answers on /health, and knows of `count` containers."""
        self.start()
        deadline = time.monotonic() + _PATIENCE
        client = Client(self.port)
        while not client.healthy() or client.containers() != count:
            if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                raise RuntimeError("the agent does not recover its containers")
            time.sleep(0.002)
        client.close()

    def memory(self) -> int:
        """Resident bytes of its process."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    def end(self, number: int = signal.SIGUSR1) -> None:
        """Sends it a signal, and waits for its end; with SIGUSR1 it takes its containers along."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


@contextmanager
def service(place: Workplace) -> Iterator[Service]:
    """An agent that has started."""
    agent = Service(place)
    try:
        agent.start_and_await(0)
        yield agent
    finally:
        agent.end()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((_HOST, 0))
        return int(listening.getsockname()[1])
