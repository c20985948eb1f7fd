"""`mesocosm files`: what is in the sandboxes of containers."""

from __future__ import annotations

import errno
import json
import os
import posixpath
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from mesocosm.cli.agent_option import agent_options, json_option
from mesocosm.cli.containers import completing, container_argument, find
from mesocosm.cli.messages import FAILED, complain, printable
from mesocosm.cli.table import CYAN, Column, cut, print_table
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError
from mesocosm.client.connection import Connection
from mesocosm.errors import FlagError, MesocosmError
from mesocosm.units import round_size

_DIRECTORY, _LINK = "/", "@"
_SHOWN = 60
"""Characters of a path that is too long."""
_EPILOG = """\b
Examples:
  mesocosm files ls web
  mesocosm files cat web stderr
  mesocosm files cp web results/ .
"""
_COLUMNS = (
    Column("mode"),
    Column("user", rank=2),
    Column("group", rank=3),
    Column("size", ">"),
    Column("modified", rank=1),
    Column("name", style=lambda name: CYAN if name.endswith((_DIRECTORY, _LINK)) else ""),
)


class _FileName(click.types.StringParamType):
    """A path in the sandbox of the container that the command line names, which the shell completes; or one of here."""

    def __init__(self, *, or_here: bool = False) -> None:
        self._or_here = or_here

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files and directories that begin so."""
        if self._or_here and incomplete.startswith((".", "/", "~")):
            return [CompletionItem(incomplete, type="file")]
        directory = incomplete.rpartition("/")[0]
        with completing(ctx) as connection:
            sandbox = Sandbox.find(connection, ctx.params["container"])
            names = [posixpath.join(directory, _completed_name(entry)) for entry in sandbox.list(directory)]
            return [CompletionItem(name) for name in names if name.startswith(incomplete) and name.isprintable()]
        return []


class Sandbox:
    """The files of one container."""

    def __init__(self, connection: Connection, container_id: str, root: str) -> None:
        self._connection = connection
        self._container_id = container_id
        self._root = root

    @classmethod
    def find(cls, connection: Connection, text: str) -> Sandbox:
        """That of the container that `text` means. Raises MesocosmError."""
        container = find(connection, text)
        if (root := container.entry.get("sandbox")) is None:
            raise MesocosmError(f"{container.id} has no sandbox")
        return cls(connection, container.id, root)

    def list(self, path: str) -> list[Json]:
        """What is in a directory, as `/files/browse` has it; nothing for a file. Raises AgentError."""
        try:
            found: list[Json] = self._connection.get("/files/browse", {"path": self._virtual(path)})
        except AgentError as error:
            raise self._named(error, path) from None
        return [entry for entry in found if _is_name(_name(entry))]

    def entry(self, path: str) -> Json | None:
        """A file or directory as the list of what it is in has it; None for the sandbox itself. Raises AgentError."""
        normal = posixpath.normpath(path).lstrip("/")
        if normal == ".":
            return None
        for entry in self.list(posixpath.dirname(normal)):
            if _name(entry) == posixpath.basename(normal):
                return entry
        raise AgentError(f"{self._container_id}: {path}: there is no such file")

    def read(self, path: str) -> Iterator[bytes]:
        """A file, piece by piece. Raises AgentError."""
        try:
            yield from self._connection.download("/files/download", {"path": self._virtual(path)})
        except AgentError as error:
            raise self._named(error, path) from None

    def _virtual(self, path: str) -> str:
        return f"{self._root}/{path.lstrip('/')}".rstrip("/")

    def _named(self, error: AgentError, path: str) -> AgentError:
        """The error with the name of the file, where the agent had something to say about that."""
        if error.status is None or error.status in (401, 403):
            return error
        reason = "there is no such file" if error.status == 404 else error.message
        return AgentError(f"{self._container_id}: {printable(path) or '/'}: {reason}", status=error.status)


@click.group(epilog=_EPILOG)
def files() -> None:
    """Look into the sandboxes of containers, also of those that have ended."""


@files.command(epilog=_EPILOG)
@json_option
@container_argument()
@click.argument("path", default="", metavar="[PATH]", type=_FileName())
@agent_options
def ls(agent: Address, *, container: str, path: str, as_json: bool) -> int:
    """List a directory, by default the sandbox itself."""
    with Connection(agent) as connection:
        sandbox = Sandbox.find(connection, container)
        found = sandbox.list(path)
        if not found and (entry := sandbox.entry(path)) is not None and not _is_directory(entry):
            found = [entry]
    if as_json:
        click.echo(json.dumps([{"name": _name(entry), **entry} for entry in found], indent=2))
    else:
        print_table(_COLUMNS, [_cells(entry) for entry in found])
    return 0


@files.command(epilog=_EPILOG)
@container_argument()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=_FileName())
@agent_options
def cat(agent: Address, *, container: str, paths: tuple[str, ...]) -> int:
    """Print files."""
    with Connection(agent) as connection:
        sandbox = Sandbox.find(connection, container)
        for path in paths:
            for data in sandbox.read(path):
                sys.stdout.buffer.write(data)
    return 0


@files.command(epilog=_EPILOG)
@container_argument()
@click.argument("paths", metavar="PATH... DESTINATION", nargs=-1, required=True, type=_FileName(or_here=True))
@agent_options
def cp(agent: Address, *, container: str, paths: tuple[str, ...]) -> int:
    """Copy files and directories out of a sandbox.

    Links are copied as the files that they lead to; those that lead to directories are left out.
    """
    *sources, last = paths
    destination = Path(last)
    if not sources:
        raise click.UsageError("say what is copied, and then where to")
    if len(sources) > 1 and not destination.is_dir():
        raise FlagError(f"{destination} is no directory", "make it first")
    with Connection(agent) as connection:
        sandbox = Sandbox.find(connection, container)
        copy = Copy(sandbox)
        for source in sources:
            name = posixpath.basename(posixpath.normpath(source).rstrip("/"))
            into = destination.is_dir() and _is_name(name)
            copy.add(source, sandbox.entry(source), destination / name if into else destination)
    return copy.status


class Copy:
    """Copies what comes; what cannot be is told of, and left out."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.status = 0

    def add(self, path: str, entry: Json | None, target: Path) -> None:
        """A file or a directory with all that is in it, however deep; `entry` is None for the sandbox itself."""
        waiting = [(path, entry, target)]
        while waiting:
            path, entry, target = waiting.pop()
            try:
                if entry is None or _is_directory(entry):
                    waiting += self._add_directory(path, target)
                else:
                    self._add_file(path, entry, target)
            except AgentError as error:
                if error.status is None:
                    raise
                self._refuse(str(error))
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                self._refuse(f"{cut(path, _SHOWN)}: {error.strerror}")

    def _add_directory(self, path: str, target: Path) -> list[tuple[str, Json | None, Path]]:
        """What is in it, which is to be added next."""
        target.mkdir(exist_ok=True)
        inside: list[tuple[str, Json | None, Path]] = []
        for entry in self._sandbox.list(path):
            inner = posixpath.normpath(posixpath.join(path, _name(entry)))
            if _is_directory(entry) and entry.get("is_link"):
                # It could lead to where it is itself.
                self._refuse(f"{inner} is a link to a directory, and left out")
            else:
                inside.append((inner, entry, target / _name(entry)))
        return inside[::-1]

    def _add_file(self, path: str, entry: Json, target: Path) -> None:
        # A pipe, or a link, such as /dev/stdout: what it leads to is written, and not another file put in its place.
        if target.is_symlink() or (target.exists() and not target.is_file()):
            with target.open("wb") as file:
                file.writelines(self._sandbox.read(path))
            return
        partial = target.with_name(f".{os.getpid()}.partial")  # Whose own name is as long as it may be, has no room.
        try:
            # It can be executed if that in the sandbox can be.
            partial.touch(0o777 if "x" in entry["mode"] else 0o666, exist_ok=False)
            with partial.open("wb") as file:
                file.writelines(self._sandbox.read(path))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _refuse(self, reason: str) -> None:
        complain(reason)
        self.status = FAILED


def _name(entry: Json) -> str:
    return posixpath.basename(str(entry["path"]))


def _is_name(name: str) -> bool:
    """Whether this can be the name of a file here, whatever an agent says."""
    return name not in ("", ".", "..") and "\0" not in name


def _is_directory(entry: Json) -> bool:
    return str(entry["mode"]).startswith("d")


def _completed_name(entry: Json) -> str:
    return _name(entry) + (_DIRECTORY if _is_directory(entry) else "")


def _shown_name(entry: Json) -> str:
    return _completed_name(entry) + (_LINK if entry.get("is_link") else "")


def _cells(entry: Json) -> tuple[str, ...]:
    modified = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["mtime"]))
    return entry["mode"], entry["uid"], entry["gid"], round_size(entry["size"]), modified, _shown_name(entry)
