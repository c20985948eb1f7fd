"""The agent's own cgroups (`--agent_subsystems`), by which an operator counts and limits what the agent takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mesocosm.errors import FlagError
from mesocosm.linux import cgroup

_SUFFIX = "-agent"
"""Beside `--cgroups_root`. In Mesos it is `slave` below that, where it could be taken for a container."""


class OwnCgroups:
    """Puts this process, and so the launcher that it starts, into a cgroup of each of some controllers."""

    def __init__(self, controllers: Sequence[str], hierarchy: Path, root: str) -> None:
        """`hierarchy` and `root` are the flags of the containerizer. Raises FlagError for what is not mounted."""
        mounted = cgroup.hierarchies(str(hierarchy)) if controllers else cgroup.Hierarchies(())
        self._groups: dict[str, str] = {}
        for controller in controllers:
            found = mounted.of(controller)
            if found is None:
                raise FlagError(
                    f"--agent_subsystems: there is no cgroup controller {controller!r} at {hierarchy} or below",
                    "mount it there, or remove it",
                )
            self._groups[found.group(root.rstrip("/") + _SUFFIX)] = cgroup.membership(found, os.getpid())
        self._entered: list[str] = []

    def enter(self) -> None:
        """Makes the cgroups and moves there. Raises OSError, and is where it was then."""
        try:
            for group in self._groups:
                cgroup.create(group)
                self._entered.append(group)
                cgroup.assign(group, os.getpid())
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Moves back, and removes the cgroups that nothing else is in. Raises OSError."""
        while self._entered:
            group = self._entered.pop()
            cgroup.assign(self._groups[group], os.getpid())
            cgroup.remove_unused(group)  # A logger goes on with its container.
