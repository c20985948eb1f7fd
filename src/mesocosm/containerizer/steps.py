"""The steps in the life of a container that are not the same for containers of all kinds."""

from __future__ import annotations

from collections.abc import Collection

from mesocosm.container import ContainerConfig, ContainerID, ContainerType, Termination
from mesocosm.containerizer.base import ContainerIO
from mesocosm.containerizer.command import describe
from mesocosm.containerizer.launching import Launching
from mesocosm.containerizer.lifecycle import Container
from mesocosm.containerizer.needs import check_needs
from mesocosm.containerizer.supervision import Supervision
from mesocosm.flags import Flags
from mesocosm.isolators.selection import NamedIsolator, select
from mesocosm.launcher.info import Credentials, LaunchInfo


class Steps:
    """Those of containers that isolators and a launcher make.

    A containerizer of another kind gives a class derived from this one, which does what is its own before or after
    the same step of this class.
    """

    kind = ContainerType.MESOS
    """Of the containers that it launches; others are not supported."""

    # Before there is any container.

    def select(self, flags: Flags, launcher: str, sole: ContainerConfig | None) -> list[NamedIsolator]:
        """The isolators, in the order they work in. Raises FlagError."""
        return select(flags, launcher, sole)

    def lay_out(self) -> None:
        """Makes on disk what containers share, once no other process uses the directory. Raises OSError."""

    # Of one container, in their order.

    def check(self, container_id: ContainerID, config: ContainerConfig, isolation: Collection[str]) -> None:
        """Refuses what is asked for and nothing here does. Raises ContainerError."""
        check_needs(container_id, config, isolation)

    def describe(self, config: ContainerConfig, credentials: Credentials | None, flags: Flags) -> LaunchInfo:
        """The part of its launch that is no isolator's. Raises ContainerError."""
        return describe(config, credentials, flags)

    async def start(
        self,
        launching: Launching,
        supervision: Supervision,
        container: Container,
        parent: Container | None,
        io: ContainerIO | None,
    ) -> None:
        """PROVISIONING to RUNNING, with the `supervision` that follows. Raises MesocosmError or OSError."""
        await launching.start(container, parent, io)

    async def supervise(self, supervision: Supervision, container: Container) -> Termination:
        """Returns how it has ended, when it has. Raises MesocosmError or OSError."""
        return await supervision.end(container)

    async def stop(self, container_id: ContainerID) -> None:
        """Has it end by itself, if its kind can, before its processes are killed. Raises OSError."""
