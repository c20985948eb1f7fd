"""Directories that nobody else can write to, or put others in the place of."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mesocosm.errors import FlagError


def make_private_directory(directory: Path, setting: str, mode: int = 0o700) -> Path:
    """Makes `directory`, and returns it without links in it, which somebody could change later.

    Raises FlagError, with the name of the `setting`, if somebody else could write to it or replace it, and OSError.
    """
    directory.mkdir(mode, parents=True, exist_ok=True)
    directory = directory.resolve()
    for path in (directory, *directory.parents):
        if not _is_safe(path.stat(), parent=path != directory):
            raise FlagError(
                f"{setting}: others can write to {path}",
                f"make it belong to the user {os.geteuid()} alone, or give a directory elsewhere",
            )
    return directory


def _is_safe(status: os.stat_result, *, parent: bool) -> bool:
    """Whether it belongs to those who may do everything here, and no other can put something into it, or away."""
    if status.st_uid not in (0, os.geteuid()):
        return False
    if parent:
        return not status.st_mode & stat.S_IWOTH or bool(status.st_mode & stat.S_ISVTX)
    return not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
