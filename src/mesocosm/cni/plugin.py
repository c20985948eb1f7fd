"""Plugins as programs: found, executed beside the event loop, and ended when they take too long."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.cni.result import one_line, parse_error
from mesocosm.errors import ContainerError
from mesocosm.flags import DEFAULT_PATH
from mesocosm.linux import process
from mesocosm.linux.poll import readable
from mesocosm.units import format_duration

_MOST_OUTPUT = 1 << 20
_CHUNK = 65536


class PluginError(ContainerError):
    """A plugin could not be executed, or has failed."""


@dataclass(slots=True)
class Plugins:
    """The programs in `directories`, each of which may run for `timeout` seconds."""

    directories: Sequence[Path]
    timeout: float
    _versions: dict[tuple[str, int, int], frozenset[str] | None] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """CNI_PATH, where plugins find others."""
        return ":".join(map(str, self.directories))

    def find(self, kind: str) -> Path:
        """The program of a type, which is in one of the directories. Raises PluginError."""
        for directory in self.directories:
            program = directory / kind
            if program.is_file() and os.access(program, os.X_OK):
                return program
        raise PluginError(f"there is no CNI plugin {kind!r} in {self.path}", "install it, or give its directory")

    async def versions(self, kind: str) -> frozenset[str] | None:
        """The versions of CNI that a plugin speaks; None of one that does not say. Raises PluginError, OSError."""
        program = self.find(kind)
        status = program.stat()
        key = str(program), status.st_ino, status.st_mtime_ns
        if key not in self._versions:
            self._versions[key] = await self._ask_versions(kind)
        return self._versions[key]

    async def _ask_versions(self, kind: str) -> frozenset[str] | None:
        # Older plugins want to have all of them, whatever the command is.
        dummies = dict.fromkeys(("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"), "dummy")
        try:
            answer = json.loads(await self.run(kind, "VERSION", dummies, b'{"cniVersion": "1.0.0"}'))
            return frozenset(map(str, answer["supportedVersions"]))
        except (PluginError, ValueError, RecursionError, TypeError, KeyError):
            return None  # Those of before 0.2.0 have no such command.

    async def run(
        self, kind: str, command: str, parameters: Mapping[str, str], request: bytes, record: Path | None = None
    ) -> bytes:
        """What a plugin prints that succeeds at `command`. Raises PluginError, OSError.

        It is ended when its time is over, and when the caller is cancelled. Before it is told what to do, `record`
        says what process it is: should this one be killed, `end_recorded` ends it.
        """
        environment = {
            **parameters,
            "CNI_COMMAND": command,
            "CNI_PATH": self.path,
            "PATH": os.environ.get("PATH", DEFAULT_PATH),
        }
        try:
            execution = Execution.start(self.find(kind), environment)
        except OSError as error:
            raise PluginError(f"the CNI plugin {kind!r} cannot be executed: {error.strerror}") from error
        try:
            if record is not None:
                record.write_text(f"{execution.pid} {process.start_time(execution.pid)}")
            async with asyncio.timeout(self.timeout):
                await execution.converse(request)
        except TimeoutError:
            raise PluginError(
                f"the CNI plugin {kind!r} was killed: its {command} took longer than {format_duration(self.timeout)}"
            ) from None
        finally:
            status = await execution.end()
        if status:
            reason = _reason(status, execution.output, execution.errors)
            raise PluginError(f"the CNI plugin {kind!r} failed to {command}: {reason}")
        if len(execution.output) > _MOST_OUTPUT:
            raise PluginError(f"the CNI plugin {kind!r} printed more than any result has")
        return bytes(execution.output)


def end_recorded(record: Path) -> None:
    """Ends the plugin that `record` tells of, if that still runs. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid, started = map(int, record.read_text().split())
        pidfd = process.open_same(pid, started)
        if pidfd is not None:
            try:
                _kill_group(pid)
            finally:
                os.close(pidfd)


@dataclass(slots=True)
class Execution:
    """A program that runs in a session of its own, and the beginning of what it has printed.

    It is not waited for but by its pidfd, so its pid, and that of its group, is its own until all of it was killed.
    """

    pid: int
    output: bytearray
    errors: bytearray
    _process: subprocess.Popen[bytes]
    _pidfd: int
    _pipes: tuple[int, int, int]

    @classmethod
    def start(cls, program: Path, environment: Mapping[str, str]) -> Execution:
        """Executes it, with three pipes and nothing else of this process. Raises OSError."""
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
            for number, (reader, writer) in enumerate(pipes):
                theirs.callback(os.close, writer if number else reader)
                ours.callback(os.close, reader if number else writer)
            child = subprocess.Popen(
                [program],
                stdin=pipes[0][0],
                stdout=pipes[1][1],
                stderr=pipes[2][1],
                env=dict(environment),
                cwd="/",
                start_new_session=True,
            )
            pidfd = os.pidfd_open(child.pid)
            ours.pop_all()
        return cls(child.pid, bytearray(), bytearray(), child, pidfd, (pipes[0][1], pipes[1][0], pipes[2][0]))

    async def converse(self, request: bytes) -> None:
        """Tells it the request, and reads all that it prints until it has ended. Raises OSError."""
        told, printed, complained = self._pipes
        if len(request) > _CHUNK:
            fcntl.fcntl(told, fcntl.F_SETPIPE_SZ, len(request))  # So that it can be written at once.
        with contextlib.suppress(BrokenPipeError):  # Not every plugin wants to know.
            os.write(told, request)
        os.close(told)
        self._pipes = (-1, printed, complained)
        reading = [
            asyncio.ensure_future(_read(pipe, data))
            for pipe, data in ((printed, self.output), (complained, self.errors))
        ]
        try:
            await readable(self._pidfd)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
        for pipe, data in ((printed, self.output), (complained, self.errors)):
            _read_rest(pipe, data)

    async def end(self) -> int:
        """Kills it with what it has started, as far as that has not ended, and returns its status."""
        # Its pid is not free before it was waited for.
        _kill_group(self.pid)
        try:
            await readable(self._pidfd)
        finally:
            status = self._process.wait()
            for descriptor in (self._pidfd, *self._pipes):
                if descriptor != -1:
                    os.close(descriptor)
        return status


async def _read(pipe: int, data: bytearray) -> None:
    while True:
        await readable(pipe)
        if not _take(os.read(pipe, _CHUNK), data):
            return


def _read_rest(pipe: int, data: bytearray) -> None:
    """Takes what is in a pipe, whose other end a process may keep that the program has started."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while len(data) <= _MOST_OUTPUT and _take(os.read(pipe, _CHUNK), data):
            pass


def _take(part: bytes, data: bytearray) -> bool:
    if len(data) <= _MOST_OUTPUT:
        data += part
    return bool(part)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _reason(status: int, output: bytes | bytearray, errors: bytes | bytearray) -> str:
    if (told := parse_error(bytes(output))) is not None:
        return told
    text = one_line((errors or output).decode(errors="replace"))
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ended}: {text}" if text else ended
