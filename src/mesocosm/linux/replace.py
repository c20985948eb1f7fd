"""Files that are replaced whole: whoever reads one, also after a crash, finds what it had before or what it has now."""

from __future__ import annotations

import contextlib
import os

from mesocosm.linux.descriptors import write_all


def replace_file(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, synced: bool = False) -> None:
    """Gives `path` the content `data`. Raises OSError with `path`, and has left it as it was then.

    What is `synced` is on the disk; else it outlives a crash of this process, but maybe not one of the machine. One
    caller at a time may replace a file: the new one is beside it meanwhile, with `.new` at the end of its name.
    """
    path = os.fspath(path)
    try:
        _replace(path, f"{path}.new", data, mode, synced=synced)
        if synced:
            sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _replace(path: str, temporary: str, data: bytes, mode: int, *, synced: bool) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(descriptor, data)
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Returns when the names in a directory are on the disk (fsync(2)). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
