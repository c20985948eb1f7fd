"""Plugins as programs: found, executed beside the event loop, and ended when they take too long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.cni.result import parse_error
from mesocosm.errors import ContainerError
from mesocosm.external import MOST_OUTPUT, Execution, how_ended, kill_group
from mesocosm.flags import DEFAULT_PATH
from mesocosm.linux import process
from mesocosm.units import format_duration


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
            execution = Execution.start([self.find(kind)], environment)
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
        if len(execution.output) > MOST_OUTPUT:
            raise PluginError(f"the CNI plugin {kind!r} printed more than any result has")
        return bytes(execution.output)


def end_recorded(record: Path) -> None:
    """Ends the plugin that `record` tells of, if that still runs. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid, started = map(int, record.read_text().split())
        pidfd = process.open_same(pid, started)
        if pidfd is not None:
            try:
                kill_group(pid)
            finally:
                os.close(pidfd)


def _reason(status: int, output: bytes | bytearray, errors: bytes | bytearray) -> str:
    if (told := parse_error(bytes(output))) is not None:
        return told
    return how_ended(status, errors or output)
