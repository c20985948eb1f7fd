"""Projects of XFS: the ids that there are, and the directories that have them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mesocosm.errors import FlagError
from mesocosm.linux import xfs

_RANGE = re.compile(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", re.ASCII)


class Projects:
    """The projects that directories have, of those that there are."""

    def __init__(self, ranges: tuple[range, ...]) -> None:
        self._ranges = ranges
        self._directories: dict[int, Path] = {}
        self._projects: dict[Path, int] = {}

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(map(len, self._ranges))

    @property
    def free(self) -> int:
        """How many no directory has."""
        return self.total - sum(self._contains(project) for project in self._directories)

    def unused(self) -> Iterator[int]:
        """Those that no directory has."""
        return (project for project in itertools.chain(*self._ranges) if project not in self._directories)

    def keep(self, project: int, directory: Path) -> None:
        """Says whose it is, and nobody else's any more."""
        self.give_back(project)
        self._directories[project] = directory
        self._projects[directory] = project

    def of(self, directory: Path) -> int | None:
        """That of the directory."""
        return self._projects.get(directory)

    def gone(self) -> list[int]:
        """Those whose directory is gone. They are in use until they are given back."""
        return [project for project, directory in self._directories.items() if not os.path.lexists(directory)]

    def give_back(self, project: int) -> None:
        """Says that no directory has it; none may have had it."""
        directory = self._directories.pop(project, None)
        if directory is not None and self._projects[directory] == project:
            del self._projects[directory]

    def _contains(self, project: int) -> bool:
        return any(project in each for each in self._ranges)


def parse_ranges(text: str) -> tuple[range, ...]:
    """Ids of projects as `[5000-10000,20000-20010]`. Raises FlagError."""
    ranges = []
    for part in text.strip().removeprefix("[").removesuffix("]").split(","):
        match = _RANGE.fullmatch(part)
        first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 0 < first <= last <= xfs.LARGEST_PROJECT:
            raise FlagError(f"--xfs_project_range: {text!r} is no range of projects", "write [FIRST-LAST], from 1 on")
        ranges.append(range(first, last + 1))
    for one, other in itertools.combinations(ranges, 2):
        if one.start < other.stop and other.start < one.stop:
            raise FlagError(f"--xfs_project_range: {text!r} has a project twice", "write ranges that do not overlap")
    return tuple(ranges)
