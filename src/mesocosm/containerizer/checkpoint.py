"""What a containerizer keeps on disk of each container, below `<runtime_dir>/containers/<id>`.

    config   what was asked for, written before anything is made
    pid      the init, written before it is released
    status   the termination, written before the init may go and again when all is known

Every file is JSON with the version of its format, and is replaced whole. Nothing is synced to the disk: the directory
describes processes, and a crash of the machine ends them, too.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from mesocosm.container import RUNTIME_SEPARATOR, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.base import Times
from mesocosm.dataclass import dataclass, field
from mesocosm.directories import make_directories, set_aside
from mesocosm.errors import ContainerError, RecoveryError
from mesocosm.linux.replace import replace_file
from mesocosm.linux.tree import remove_path
from mesocosm.secrets import Hidden

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_CONFIG, _PID, _STATUS = "config", "pid", "status"
_NESTED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})
"""Why the directory of nested containers stays, where one is removed: others are in it, or it is gone."""
_SHOWN = 64
"""Characters of a text that is no text, in a message."""
_PREFIX = b'{"version": %d, ' % FORMAT_VERSION
_VERSION = re.compile(rb'\s*\{\s*"version"\s*:\s*(\d{1,20})\s*[,}]')

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Launched:
    """A forked init: its pid and start time name it, the rest is what its launch decided."""

    pid: int
    started: int | None
    boot_id: str
    has_pid_namespace: bool
    records_status: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None


class Checkpoints:
    """The state directory of a containerizer. Methods raise OSError; reads raise RecoveryError for damaged files."""

    def __init__(self, runtime_dir: Path) -> None:
        self.root = runtime_dir / RUNTIME_SEPARATOR

    def directory(self, container_id: ContainerID) -> Path:
        """The directory of one container."""
        return Path(self._path(container_id))

    def status_file(self, container_id: ContainerID) -> Path:
        """Where the termination is."""
        return Path(self._path(container_id, _STATUS))

    def _path(self, container_id: ContainerID, name: str = "") -> str:
        # A plain string, as it is needed often: to join paths takes longer than to read a file.
        above = str(self.root) if container_id.parent is None else self._path(container_id.parent, RUNTIME_SEPARATOR)
        directory = f"{above}/{container_id.value}"
        return f"{directory}/{name}" if name else directory

    def create(self, container_id: ContainerID, config: ContainerConfig) -> None:
        """Makes the directory of a container and writes what was asked for."""
        make_directories(self.directory(container_id))
        try:
            _write(self._path(container_id, _CONFIG), config)
        except UnicodeEncodeError as error:
            text = error.object[max(error.start - _SHOWN, 0) : error.end]
            raise ContainerError(f"{container_id}: text that ends with {text!r} is not UTF-8", "give text") from None

    def write_launched(self, container_id: ContainerID, launched: Launched) -> None:
        """Records the init."""
        _write(self._path(container_id, _PID), launched)

    def forget_launched(self, container_id: ContainerID) -> None:
        """Says that all of the container is given back: only the record of its end is left."""
        Path(self._path(container_id, _PID)).unlink(missing_ok=True)

    def write_termination(self, container_id: ContainerID, termination: Termination) -> None:
        """Records how the container ended."""
        _write(self._path(container_id, _STATUS), termination)

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        """What was asked for; None if the launch did not come so far."""
        return _read(self._path(container_id, _CONFIG), ContainerConfig)

    def launched(self, container_id: ContainerID) -> Launched | None:
        """The init; None if there never was one that was released."""
        return _read(self._path(container_id, _PID), Launched)

    def termination(self, container_id: ContainerID) -> Termination | None:
        """How the container ended; None if it has not, or nobody saw it."""
        return _read(self._path(container_id, _STATUS), Termination)

    def times(self, container_id: ContainerID) -> Times:
        """By the times of the records. That of its init is written once, and what was asked for again if it changes."""
        launched = _written(self._path(container_id, _PID)) or _written(self._path(container_id, _CONFIG))
        return Times(launched, _written(self._path(container_id, _STATUS)))

    def containers(self, misplaced: list[Path] | None = None) -> list[ContainerID]:
        """All containers that have a directory, parents before their children.

        What cannot be the directory of one is added to `misplaced`; without that, RecoveryError is raised for it.
        """
        found: list[ContainerID] = []
        others: list[Path] = [] if misplaced is None else misplaced
        _find(str(self.root), None, found, others)
        if misplaced is None and others:
            raise RecoveryError(f"{others[0]} is not the directory of a container", "remove it")
        return found

    def set_aside(self, path: Path) -> None:
        """Moves what is damaged at `path`, with all that is in it, to where people find it and no containerizer."""
        if path.exists():
            logger.error("what was in %s is now in %s", path, set_aside(path, self.root.parent / "damaged"))

    def remove(self, container_id: ContainerID) -> None:
        """Removes the directory of a container with those of nested ones; absent is no error."""
        directory = self.directory(container_id)
        with contextlib.suppress(FileNotFoundError):
            remove_path(directory)
        if container_id.parent is not None:
            try:
                directory.parent.rmdir()
            except OSError as error:
                if error.errno not in _NESTED:
                    raise


def boot_id() -> str:
    """What names this boot of the machine: pids of another one mean nothing. Empty where the system does not tell.

    Raises OSError: with none for want of a descriptor, say, all containers would be taken for those of another boot.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, PermissionError):
        return ""


def _find(directory: str, parent: ContainerID | None, found: list[ContainerID], others: list[Path]) -> None:
    """Adds the containers in `directory`, each before those nested in it, and what should be one and cannot."""
    try:
        with os.scandir(directory) as entries:
            present = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        others.append(Path(directory))
        return
    for entry in present:
        try:
            container_id = ContainerID(entry.name, parent)
        except ContainerError:
            container_id = None
        if container_id is None or not entry.is_dir(follow_symlinks=False):
            others.append(Path(entry.path))
            continue
        found.append(container_id)
        _find(f"{entry.path}/{RUNTIME_SEPARATOR}", container_id, found, others)


def _write(path: str, value: object) -> None:
    """Replaces the file. Raises OSError, which names it."""
    replace_file(path, _PREFIX + _encode(value)[1:])


def _written(path: str) -> float | None:
    try:
        return Path(path).stat().st_mtime
    except FileNotFoundError:
        return None


def _encode(value: object) -> bytes:
    """The value as JSON. Raises UnicodeEncodeError for text that is none."""
    return _ENCODER.encode(value).encode()


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return value.value if isinstance(value, enum.Enum) else str(value)


_ENCODER = json.JSONEncoder(default=_plain, ensure_ascii=False)
"""Of the standard library: what reads it is more to load than all that is launched by `mesocosm run`."""


def _read(path: str, kind: type[Value]) -> Value | None:
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise RecoveryError(f"{path} is damaged: it is a directory", "remove it") from None
    version = _VERSION.match(data)
    if version is None:
        raise RecoveryError(f"{path} is damaged: it is no state of a container", "remove it, or restore it")
    if int(version[1]) > FORMAT_VERSION:
        raise RecoveryError(
            f"{path} has format version {int(version[1])}, and this Mesocosm knows {FORMAT_VERSION}",
            "run the version that wrote it, or a newer one",
        )
    import msgspec

    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        return msgspec.json.decode(data, type=kind, dec_hook=_decode)
    # It has an infinite number, or is damaged.
    try:
        return msgspec.convert(json.loads(data), kind, dec_hook=_decode)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecoveryError(f"{path} is damaged: {error}", "remove it, or restore it") from None


def _decode(kind: type[Any], value: Any) -> Any:
    if kind is Path:
        return Path(value)
    if kind is Hidden:
        return Hidden()
    raise NotImplementedError(f"a value of type {kind}")
