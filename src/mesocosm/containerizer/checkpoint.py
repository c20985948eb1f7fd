"""What a containerizer keeps on disk of each container, below `<runtime_dir>/containers/<id>`.

    config   what was asked for, written before anything is made
    pid      the init, written before it is released
    status   the termination, written before the init may go and again when all is known

Every file is JSON with the version of its format, and is replaced whole. Nothing is synced to the disk: the directory
describes processes, and a crash of the machine ends them, too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mesocosm.container import RUNTIME_SEPARATOR, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.directory import make_directories
from mesocosm.errors import ContainerError, RecoveryError

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_CONFIG, _PID, _STATUS = "config", "pid", "status"
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
        return self.root / container_id.join(RUNTIME_SEPARATOR)

    def create(self, container_id: ContainerID, config: ContainerConfig) -> None:
        """Makes the directory of a container and writes what was asked for."""
        directory = self.directory(container_id)
        make_directories(directory)
        try:
            _write(directory / _CONFIG, config)
        except UnicodeEncodeError as error:
            raise ContainerError(f"{container_id}: {error.object!r} is not UTF-8", "give text") from None

    def write_launched(self, container_id: ContainerID, launched: Launched) -> None:
        """Records the init."""
        _write(self.directory(container_id) / _PID, launched)

    def forget_launched(self, container_id: ContainerID) -> None:
        """Says that all of the container is given back: only the record of its end is left."""
        (self.directory(container_id) / _PID).unlink(missing_ok=True)

    def status_file(self, container_id: ContainerID) -> Path:
        """Where the termination is."""
        return self.directory(container_id) / _STATUS

    def write_termination(self, container_id: ContainerID, termination: Termination) -> None:
        """Records how the container ended."""
        _write(self.status_file(container_id), termination)

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        """What was asked for; None if the launch did not come so far."""
        return _read(self.directory(container_id) / _CONFIG, ContainerConfig)

    def launched(self, container_id: ContainerID) -> Launched | None:
        """The init; None if there never was one that was released."""
        return _read(self.directory(container_id) / _PID, Launched)

    def termination(self, container_id: ContainerID) -> Termination | None:
        """How the container ended; None if it has not, or nobody saw it."""
        return _read(self.status_file(container_id), Termination)

    def containers(self, *, strict: bool = True) -> list[ContainerID]:
        """All containers that have a directory, parents before their children.

        What cannot be one is damage. If not `strict`, that is logged and left alone.
        """
        found: list[ContainerID] = []
        for entry in _containers(self.root, None):
            if isinstance(entry, ContainerID):
                found.append(entry)
            elif strict:
                raise entry
            else:
                logger.error("%s", entry)
        return found

    def set_aside(self, container_id: ContainerID) -> Path:
        """Moves the directory of a container, with those of nested ones, to where nobody reads it; returns where."""
        aside = self.root.parent / "damaged"
        make_directories(aside)
        target = Path(tempfile.mkdtemp(prefix=f"{container_id.value}-", dir=aside))
        return self.directory(container_id).rename(target / container_id.value)

    def remove(self, container_id: ContainerID) -> None:
        """Removes the directory of a container with those of nested ones; absent is no error."""
        directory = self.directory(container_id)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)
        if container_id.parent is not None:
            with contextlib.suppress(OSError):  # Other nested containers still are in it.
                directory.parent.rmdir()


def boot_id() -> str:
    """What names this boot of the machine: pids of another one mean nothing. Empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _containers(directory: Path, parent: ContainerID | None) -> Iterator[ContainerID | RecoveryError]:
    """The containers, and errors for what should be one and cannot."""
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        yield RecoveryError(f"{directory.parent} is not the directory of a container", "remove it")
        return
    for name in names:
        try:
            container_id = ContainerID(name, parent)
        except ContainerError:
            yield RecoveryError(f"{directory / name} is not the directory of a container", "remove it")
            continue
        yield container_id
        yield from _containers(directory / name / RUNTIME_SEPARATOR, container_id)


def _write(path: Path, value: object) -> None:
    encoded = _encode(value)
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        data = _PREFIX + encoded[1:]
        if file.write(data) != len(data):
            raise OSError(f"{temporary}: not all of it could be written")
    os.rename(temporary, path)


def _encode(value: object) -> bytes:
    if isinstance(value, ContainerConfig) and math.inf in (value.resources.cpus, value.limits.cpus, value.limits.mem):
        # Which JSON has no word for: msgspec writes null. What `json` writes, it also reads.
        return json.dumps(msgspec.to_builtins(value, enc_hook=str)).encode()
    return msgspec.json.encode(value, enc_hook=str)


def _read(path: Path, kind: type[Value]) -> Value | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    version = _VERSION.match(data)
    if version is None:
        raise RecoveryError(f"{path} is damaged: it is no state of a container", "remove it, or restore it")
    if int(version[1]) > FORMAT_VERSION:
        raise RecoveryError(
            f"{path} has format version {int(version[1])}, and this Mesocosm knows {FORMAT_VERSION}",
            "run the version that wrote it, or a newer one",
        )
    try:
        return msgspec.convert(json.loads(data), kind, dec_hook=_decode)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecoveryError(f"{path} is damaged: {error}", "remove it, or restore it") from None


def _decode(kind: type[Any], value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"a value of type {kind}")
