"""Plugins as programs: found, executed beside the event loop, and ended when they take too long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.cni.result import one_line, parse_error
from mesocosm.errors import ContainerError
from mesocosm.flags import DEFAULT_PATH
from mesocosm.linux import process
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
        program = self.find(kind)
        try:
            execution = await asyncio.create_subprocess_exec(
                program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise PluginError(f"the CNI plugin {program} cannot be executed: {error.strerror}") from error
        try:
            if record is not None:
                record.write_text(f"{execution.pid} {process.start_time(execution.pid)}")
            async with asyncio.timeout(self.timeout):
                output, errors = await _converse(execution, request)
        except BaseException as error:
            _end_group(execution.pid)
            await execution.wait()
            if not isinstance(error, TimeoutError):
                raise
            raise PluginError(
                f"the CNI plugin {kind!r} was killed: its {command} took longer than {format_duration(self.timeout)}"
            ) from None
        if execution.returncode:
            reason = _reason(execution.returncode, output, errors)
            raise PluginError(f"the CNI plugin {kind!r} failed to {command}: {reason}")
        if len(output) > _MOST_OUTPUT:
            raise PluginError(f"the CNI plugin {kind!r} printed more than any result has")
        return output


def end_recorded(record: Path) -> None:
    """Ends the plugin that `record` tells of, if that still runs. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid, started = map(int, record.read_text().split())
        pidfd = process.open_same(pid, started)
        if pidfd is not None:
            try:
                _end_group(pid)
            finally:
                os.close(pidfd)


async def _converse(execution: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, bytes]:
    """Writes the request; returns the beginning of both outputs, when all is written and the plugin has ended."""
    assert execution.stdin is not None
    assert execution.stdout is not None
    assert execution.stderr is not None
    _, output, errors, _ = await asyncio.gather(
        _write(execution.stdin, request), _read(execution.stdout), _read(execution.stderr), execution.wait()
    )
    return output, errors


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # Not every plugin wants to know.
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _read(stream: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while part := await stream.read(_CHUNK):
        if len(data) <= _MOST_OUTPUT:
            data += part
    return bytes(data)


def _end_group(pid: int) -> None:
    """Kills a plugin with what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _reason(status: int, output: bytes, errors: bytes) -> str:
    if (told := parse_error(output)) is not None:
        return told
    text = one_line((errors or output).decode(errors="replace"))
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ended}: {text}" if text else ended
