"""The interface of a container logger, which decides where the output of containers goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.containerizer.base import ContainerIO


@dataclass(frozen=True, slots=True)
class LoggerSettings:
    """What a logger is made with: the agent's runtime directory, and the parameters that the operator gave it."""

    runtime_dir: Path
    parameters: Mapping[str, str] = field(default_factory=dict)


class ContainerLogger:
    """Where the output of containers goes. A subclass overrides what it needs.

    Packages name theirs in the entry point group `mesocosm.container_loggers`. Nobody tells a logger that a container
    has ended: its output ends. A container writes on when the agent is gone, and the next agent may have another
    logger, so that what receives its output has to be a file or a process of its own.
    """

    @classmethod
    def create(cls, settings: LoggerSettings) -> Self:
        """The logger for these settings. Raises FlagError for one that it has not, UnsupportedError for a host."""
        return cls()

    async def recover(self, containers: Collection[ContainerID]) -> None:
        """Called once, at the start of the agent, with the containers that run. Raises MesocosmError or OSError."""

    async def prepare(self, container_id: ContainerID, config: ContainerConfig, sandbox: Path) -> ContainerIO:
        """What the container's output goes to: descriptors, which the caller closes after the launch.

        Without descriptors these are the files `stdout` and `stderr` of the sandbox. Raises MesocosmError or OSError,
        which fails the launch.
        """
        return ContainerIO()

    async def close(self) -> None:
        """Gives back what the logger holds. Containers go on, and so does their logging."""
