"""Hooks: what other packages do at certain moments of the life of a container (`--hooks`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, FlagError
from mesocosm.plugins import find

logger = logging.getLogger(__name__)

ENTRY_POINTS = "mesocosm.hooks"


class Hook:
    """One method for each moment, which does nothing until it is overridden.

    Packages name theirs in the entry point group `mesocosm.hooks`. They are made without arguments, and run in the
    event loop: what blocks belongs into `asyncio.to_thread`.
    """

    async def pre_launch(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig | None:
        """Before the launch: what is to be launched instead, such as one with more variables; None: as it is.

        Whatever it raises fails the launch.
        """
        return None

    async def post_fetch(self, container_id: ContainerID, sandbox: Path) -> None:
        """When what the container needs is fetched into its sandbox, before its command starts.

        What it raises is logged, and the launch goes on. The sandbox belongs to the container's user, who may have put
        links there if the container was launched before.
        """


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of an agent, with the names they were asked for by, in the order they are called in."""

    named: Sequence[tuple[str, Hook]] = ()

    @classmethod
    def load(cls, names: Sequence[str]) -> Self:
        """The hooks of these names. Raises FlagError for one that there is not, that is there twice, or that fails."""
        for name in names:
            if names.count(name) > 1:
                raise FlagError(f"--hooks names {name!r} twice", "remove one of them")
        return cls(tuple((name, _make(name)) for name in names))

    async def pre_launch(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """What is to be launched: each hook is given what the one before made of it. Raises ContainerError."""
        for name, hook in self.named:
            try:
                changed = await hook.pre_launch(container_id, config)
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise ContainerError(f"{container_id}: the hook {name!r} refuses the launch: {reason}") from error
            if changed is not None:
                config = changed
        return config

    async def post_fetch(self, container_id: ContainerID, sandbox: Path) -> None:
        """Calls every hook, also after one that failed."""
        for name, hook in self.named:
            try:
                await hook.post_fetch(container_id, sandbox)
            except Exception:
                logger.exception("%s: the hook %r failed after the fetch", container_id, name)


def _make(name: str) -> Hook:
    kind = find("hooks", ENTRY_POINTS, name, Hook)
    try:
        return kind()
    except Exception as error:
        raise FlagError(f"--hooks: {name!r} cannot be made: {error}") from error
