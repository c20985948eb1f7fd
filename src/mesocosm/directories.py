"""Directories of this process's own: made, locked, and what is wrong with what is in them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mesocosm.errors import FlagError
from mesocosm.linux.lock import try_lock

_SHOWN = 64
"""Characters of a name that are part of another one."""


class DirectoryLock:
    """A lock (flock(2)) on a directory, which also ends with the process that holds it."""

    def __init__(self, directory: Path, flag: str = "runtime_dir") -> None:
        """`flag` is the one to blame if it cannot be had."""
        self._directory = directory
        self._flag = flag
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Makes the directory and locks it. Raises FlagError if another process has it, or it cannot be used."""
        try:
            make_directories(self._directory)
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FlagError(
                f"--{self._flag}: {error.filename}: {error.strerror}", "give a directory that can be written to"
            ) from error
        if not try_lock(descriptor):
            os.close(descriptor)
            raise FlagError(f"--{self._flag}: {self._directory} is in use by another process", "give each one its own")
        self._descriptor = descriptor

    def release(self) -> None:
        """Unlocks the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def make_directories(directory: Path) -> list[Path]:
    """Makes the directory with its parents, whatever the umask is: others may pass through. Raises OSError.

    Returns the directories in which there is a new one.
    """
    if directory.exists():
        return []
    changed = make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    return [*changed, directory.parent]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has an OSError name the whole path, of which the call knew a part, or a descriptor."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def set_aside(path: Path, directory: Path) -> Path:
    """Moves what is at `path`, with all that is in it, into `directory`, where nobody reads it; returns where."""
    import tempfile  # Much to load for what hardly ever happens.

    make_directories(directory)
    return path.rename(Path(tempfile.mkdtemp(prefix=f"{path.name[:_SHOWN]}-", dir=directory), path.name))
