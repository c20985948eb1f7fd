"""`mesocosm logs`: what containers have written, and what they write from now on."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator

import click

from mesocosm.cli.agent_option import agent_options
from mesocosm.cli.containers import ENDED, RUNNING, Container, container_argument, find
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError
from mesocosm.client.connection import Connection
from mesocosm.dataclass import dataclass
from mesocosm.errors import MesocosmError
from mesocosm.linux.descriptors import write_all

_STREAMS = {"stdout": 1, "stderr": 2}
_BLOCK = 1 << 16
"""Bytes that are looked at together for ends of lines."""
_NEWLINE = b"\n"
_NOT_FOUND = 404
_EPILOG = """\b
Examples:
  mesocosm logs web
  mesocosm logs -f --tail 20 web
  mesocosm logs --stderr batch-1 | grep -i error
"""


@click.command(epilog=_EPILOG)
@click.option("-f", "--follow", is_flag=True, help="Go on until the container has ended.")
@click.option("-n", "--tail", metavar="LINES", type=click.IntRange(min=0), help="Begin with the last LINES of each.")
@click.option("--stdout", is_flag=True, help="Show the standard output alone.")
@click.option("--stderr", is_flag=True, help="Show the standard error alone.")
@container_argument()
@agent_options
def logs(agent: Address, *, container: str, follow: bool, tail: int | None, stdout: bool, stderr: bool) -> int:
    """Show what a container has written, also if it has ended: standard output and standard error, each to its own."""
    with Connection(agent) as connection:
        found = find(connection, container)
        if (root := found.entry.get("sandbox")) is None:
            raise MesocosmError(f"{found.id} has no sandbox")
        if not any(_Log(root, name).paths(connection) for name in _STREAMS):
            raise _nothing_of(found)
        until = found.id if follow and not found.has_ended else None
    wanted = [name for name, asked in (("stdout", stdout), ("stderr", stderr)) if asked] or list(_STREAMS)
    readers = [_Reader(agent, _Log(root, name), tail, until) for name in wanted]
    for reader in readers:
        reader.start()
        if until is None:
            reader.join()
    for reader in readers:
        reader.join()
        if reader.error is not None:
            raise reader.error
    return 0


def _nothing_of(container: Container) -> MesocosmError:
    """Where neither file is in the sandbox."""
    if container.state in (RUNNING, ENDED):
        hint = "the --container_logger of its agent may keep it elsewhere"
        return MesocosmError(f"there is no output of {container.id} in its sandbox", hint)
    return MesocosmError(f"there is no output of {container.id} yet: it is {container.state.lower()}")


class _Reader(threading.Thread):
    """Shows one log, beside the other one. It has a connection of its own."""

    def __init__(self, agent: Address, log: _Log, tail: int | None, until: str | None) -> None:
        super().__init__(daemon=True)  # It may wait for ever, and ^C does not.
        self.error: MesocosmError | OSError | None = None
        self._agent = agent
        self._log = log
        self._tail = tail
        self._until = until

    def run(self) -> None:
        """Shows it to its end."""
        try:
            with Connection(self._agent) as connection:
                for data in self._log.read(connection, self._tail, self._until):
                    write_all(_STREAMS[self._log.name], data)
        except (MesocosmError, OSError) as error:
            self.error = error


@dataclass(frozen=True, slots=True)
class _Log:
    """The file `name` in the directory `root` of the agent, and those that were full: `name.1`, before it `name.2`."""

    root: str
    name: str

    def read(self, connection: Connection, tail: int | None, until: str | None) -> Iterator[bytes]:
        """The last lines, or all of them; then what comes until the container `until` has ended. Raises AgentError."""
        paths = self.paths(connection)
        if paths and tail is None and until is not None:
            query = {"path": f"{self.root}/{self.name}", "oldest": "true", "until": until}
            yield from connection.download("/files/follow", query)
            return
        first, offset = (0, 0) if tail is None else _beginning(connection, paths, tail)
        for path in paths[first:]:
            if path != paths[-1] or until is None:
                yield from _content(connection, path, offset)
            else:
                query = {"path": path, "offset": str(offset), "until": until}
                yield from connection.download("/files/follow", query)
            offset = 0

    def paths(self, connection: Connection) -> list[str]:
        """The oldest first. Where nothing was ever written, there is none. Raises AgentError."""
        names = [str(entry["path"]).rpartition("/")[2] for entry in self._entries(connection)]
        numbers = [int(found[1]) for name in names if (found := re.fullmatch(rf"{self.name}\.([1-9]\d*)", name))]
        full = [f"{self.root}/{self.name}.{number}" for number in sorted(numbers, reverse=True)]
        return full + [f"{self.root}/{self.name}"] * (self.name in names)

    def _entries(self, connection: Connection) -> list[Json]:
        try:
            found: list[Json] = connection.get("/files/browse", {"path": self.root})
        except AgentError as error:
            if error.status != _NOT_FOUND:
                raise
            return []
        return found


def _beginning(connection: Connection, paths: list[str], lines: int) -> tuple[int, int]:
    """Which of the files the last `lines` lines begin in, and at which offset. Raises AgentError."""
    if paths and lines == 0:
        return len(paths) - 1, int(_read(connection, paths[-1], 0, 0)["size"])
    left = lines + 1  # With the end of the line before.
    for index in range(len(paths) - 1, -1, -1):
        end = int(_read(connection, paths[index], 0, 0)["size"])
        if index == len(paths) - 1 and not _ends_a_line(connection, paths[index], end):
            left -= 1  # The last line has not ended.
        while end > 0:
            start = max(end - _BLOCK, 0)
            data = _data(connection, paths[index], start, end - start)
            if (ends := data.count(_NEWLINE)) >= left:
                return index, start + _nth_from_the_end(data, left) + 1
            left, end = left - ends, start
    return 0, 0


def _ends_a_line(connection: Connection, path: str, size: int) -> bool:
    return size == 0 or _data(connection, path, size - 1, 1) == _NEWLINE


def _nth_from_the_end(data: bytes, number: int) -> int:
    position = len(data)
    for _ in range(number):
        position = data.rindex(_NEWLINE, 0, position)
    return position


def _content(connection: Connection, path: str, offset: int) -> Iterator[bytes]:
    """A file from there to its present end, however fast it grows. Raises AgentError."""
    end = int(_read(connection, path, offset, 0)["size"])
    while offset < end and (data := _data(connection, path, offset, min(end - offset, _BLOCK))):
        yield data
        offset += len(data)


def _data(connection: Connection, path: str, offset: int, length: int) -> bytes:
    return base64.b64decode(_read(connection, path, offset, length)["data"])


def _read(connection: Connection, path: str, offset: int, length: int) -> Json:
    return connection.call("READ_FILE", {"path": path, "offset": offset, "length": length})
