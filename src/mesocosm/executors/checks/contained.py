"""Checks in a container of Docker: commands are executed by it, and connections come from its network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.docker.client import Docker
from mesocosm.docker.values import DockerError
from mesocosm.executors.checks.probes import CheckError
from mesocosm.executors.http import Address
from mesocosm.executors.statuses import Json
from mesocosm.executors.tasks import variables_of
from mesocosm.external import how_ended
from mesocosm.linux import namespaces, process
from mesocosm.linux.namespaces import Namespace

if TYPE_CHECKING:
    import ssl

_PROC = Path("/proc")
_MARK = "MESOCOSM_CHECK"
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Contained:
    """In the container `name`, whose first process has the `pidfd`."""

    docker: Docker
    name: str
    pidfd: int

    async def execute(self, command: Json) -> int:
        """By `docker exec`, with the container's variables and those of the command; what it prints is not the task's.

        Docker ends nothing that it has executed: a command without an answer is found by a mark, and killed.
        """
        mark = str(uuid.uuid4())
        variables = {**variables_of(command), _MARK: mark}
        try:
            execution = self.docker.execute(self.name, _argv(command), variables, stdout=_STDERR, stderr=_STDERR)
        except DockerError as error:
            raise CheckError(f"the command cannot be executed: {error}") from error
        try:
            await execution.converse()
        except BaseException:
            await execution.end()
            await asyncio.to_thread(_kill_marked, f"{_MARK}={mark}".encode())
            raise
        status = await execution.end()
        if status < 0:
            raise CheckError(f"its client ended with {how_ended(status, b'')}")
        return status

    def address(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Address:
        """That of the container."""
        return _Inside(host, port, tls=tls, pidfd=self.pidfd)


@dataclass(frozen=True, slots=True)
class _Inside(Address):
    """An address as a process has it."""

    pidfd: int = -1

    async def create(self) -> socket.socket:
        """A socket of the network namespace of that process, made in a thread that ends in there. Raises OSError."""
        with ThreadPoolExecutor(1) as thread:
            return await asyncio.get_running_loop().run_in_executor(thread, self._create)

    def _create(self) -> socket.socket:
        namespaces.enter(self.pidfd, Namespace.NETWORK)
        return self.make_socket()


def _argv(command: Json) -> list[str]:
    """The words for `docker exec`, which takes the arguments after the name of the executable. Raises CheckError."""
    value = command.get("value")
    if command.get("shell", True):
        return ["sh", "-c", str(value)]
    return [*([value] if value else []), *command.get("arguments", ())]


def _kill_marked(mark: bytes) -> None:
    """Kills what was executed with the variable (proc_pid_environ(5)), until nothing new has it."""
    killed: set[int] = set()
    while new := {pid for pid in _pids() if pid not in killed and _kill_if_marked(pid, mark)}:
        killed |= new


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _kill_if_marked(pid: int, mark: bytes) -> bool:
    pidfd = process.open_process(pid)
    if pidfd is None:
        return False
    try:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            environment = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
            return mark in environment and process.send_signal(pidfd, signal.SIGKILL)
        return False
    finally:
        os.close(pidfd)
