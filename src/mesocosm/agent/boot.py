"""Whether the machine was booted since the last agent worked here: pids and cgroups of then mean nothing now."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mesocosm.containerizer.checkpoint import boot_id
from mesocosm.linux.replace import replace_file

_FILE = "boot_id"


@dataclass(frozen=True, slots=True)
class Boot:
    """This boot of the machine, and whether the last agent saw another one. Kept in `<work_dir>/meta/boot_id`."""

    directory: Path
    current: str
    is_new: bool
    is_recorded: bool

    @classmethod
    def find(cls, directory: Path) -> Boot:
        """Compares with what `directory` has on record. Raises OSError."""
        current, recorded = boot_id(), None
        with contextlib.suppress(FileNotFoundError):
            recorded = (directory / _FILE).read_text(errors="replace").strip()
        return cls(directory, current, is_new=recorded not in (None, current), is_recorded=recorded == current)

    def record(self) -> None:
        """Puts this boot on record, unless it is. Raises OSError, which names the file."""
        if self.is_recorded:
            return  # Nor shall a full disk keep the agent from starting again.
        replace_file(self.directory / _FILE, self.current.encode())
