"""`mesocosm agent` as a process of its own, for tests: started, called, killed, and started again."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.flags import Flags
from tests.command_line import MESOCOSM, TIMEOUT
from tests.loaded import start

ISOLATION = "filesystem/linux,namespaces/pid,namespaces/ipc,cgroups/cpu,cgroups/mem,cgroups/pids"
_LISTENING = re.compile(r"listening on https?://(\S+):(\d+)")
_RECOVERED = re.compile(r"recovered (\d+) containers")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class AgentProcess:
    """An agent with the directories and cgroups of one test, on a free port."""

    def __init__(self, flags: Flags, directory: Path) -> None:
        self.flags = flags
        self.log = directory / "agent.log"
        self.host, self.port = "", 0
        self.keeps_port = False
        """Whether it is started at the port that it had, as the agent of a cluster has to be. Otherwise at any."""
        self.recovered = 0
        self.prefix: tuple[str, ...] = ()
        """What executes it: a program that makes surroundings for it, say."""
        self.executed = False
        """Whether it is the program itself, and no fork of one that is loaded (see tests/loaded.py)."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def argv(self, *arguments: str, isolation: str = ISOLATION) -> list[str]:
        own = [
            f"--work_dir={self.flags.work_dir}",
            f"--runtime_dir={self.flags.runtime_dir}",
            f"--cgroups_root={self.flags.cgroups_root}",
            f"--fetcher_cache_dir={self.flags.work_dir.parent / 'fetch'}",
            f"--isolation={isolation}",
            f"--port={self.port if self.keeps_port else 0}",
        ]
        return [*self.prefix, *MESOCOSM, "agent", *own, *arguments]

    def start(self, *arguments: str, isolation: str = ISOLATION, env: Mapping[str, str] = os.environ) -> None:
        """Starts it, and returns when it has recovered."""
        self.spawn(*arguments, isolation=isolation, env=env)
        self.host, port = self.await_log(_LISTENING).groups()
        self.port = int(port)
        self.recovered = int(self.await_log(_RECOVERED)[1])

    def spawn(self, *arguments: str, isolation: str = ISOLATION, env: Mapping[str, str] = os.environ) -> None:
        """Starts it."""
        assert self._process is None
        with self.log.open("wb") as log:
            argv = self.argv(*arguments, isolation=isolation)
            begin = subprocess.Popen if self.executed else start
            self._process = begin(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(env))

    def await_log(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """What of its log matches, when it does."""
        deadline = time.monotonic() + TIMEOUT
        while (found := pattern.search(self.log.read_text())) is None:
            assert self._process is not None
            status = self._process.poll()
            assert status is None, f"the agent ended with {status}: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"no {pattern.pattern!r} in: {self.log.read_text()}"
            time.sleep(0.01)  # Of what is written to a file there is no event that is worth its code here.
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it by a signal; its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, when it has ended."""
        assert self._process is not None
        status = self._process.wait(TIMEOUT)
        self._process = None
        return status

    def end(self) -> None:
        """Ends it with all of its containers, also where an earlier one left them."""
        if self._process is not None:
            self.stop(signal.SIGUSR1)
        records = self.flags.runtime_dir / "containers"
        if any(map(_has_not_ended, records.rglob("config"))):
            self.spawn("--recover=cleanup", "--no-strict")
            assert self.wait() == 0, self.log.read_text()
        if records.exists():
            shutil.rmtree(records)  # How containers ended stays on record until somebody removes them.

    # Requests.

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        unix_socket: Path | None = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Sends one request on a connection of its own."""
        connection: http.client.HTTPConnection
        if unix_socket is not None:
            connection = _UnixConnection(unix_socket)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def call(self, kind: str, *, path: str = "/api/v1", **fields: Any) -> Answer:
        """A call of the v1 API in JSON; `fields` are those of the message that belongs to it, if there are any."""
        message = {"type": kind, **({kind.lower(): fields} if fields else {})}
        return self.request("POST", path, json.dumps(message).encode(), {"Content-Type": "application/json"})

    def launch(self, name: str, command: str | list[str], /, *, nested_in: str | None = None, **fields: Any) -> Answer:
        """LAUNCH_CONTAINER of a script for the shell, or of a program with its arguments."""
        if isinstance(command, str):
            info: dict[str, Any] = {"value": command}
        else:
            info = {"shell": False, "value": command[0], "arguments": command}
        info |= fields.pop("command", {})
        return self.call("LAUNCH_CONTAINER", container_id=identity(name, nested_in), command=info, **fields)

    def wait_for(self, name: str, *, nested_in: str | None = None) -> dict[str, Any]:
        """WAIT_CONTAINER's answer."""
        answer = self.call("WAIT_CONTAINER", container_id=identity(name, nested_in))
        assert answer.status == 200, answer.text
        result: dict[str, Any] = answer.json["wait_container"]
        return result

    def containers(self) -> dict[str, dict[str, Any]]:
        """The running containers by their names, nested and standalone."""
        answer = self.call("GET_CONTAINERS", show_nested=True, show_standalone=True).json
        return {
            entry["container_id"]["value"]: entry for entry in answer.get("get_containers", {}).get("containers", ())
        }

    def sandbox(self, name: str) -> Path:
        return self.flags.work_dir / "containers" / name


def _has_not_ended(config: Path) -> bool:
    """Whether an agent may have left something of the container that asked for this."""
    return config.with_name("pid").exists() or not config.with_name("status").exists()


def identity(name: str, nested_in: str | None = None) -> dict[str, Any]:
    """A ContainerID."""
    return {"value": name} if nested_in is None else {"value": name, "parent": identity(nested_in)}


@contextmanager
def agent_process(flags: Flags, directory: Path) -> Iterator[AgentProcess]:
    """An agent that has not been started; in the end there is nothing left of it."""
    agent = AgentProcess(flags, directory)
    try:
        yield agent
    finally:
        agent.end()
