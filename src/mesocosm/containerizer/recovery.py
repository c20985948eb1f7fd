"""Finding out what became of the containers of a containerizer that is gone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass, field

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.checkpoint import Checkpoints, Launched
from mesocosm.containerizer.lifecycle import Container, State
from mesocosm.errors import RecoveryError
from mesocosm.launcher.base import InitProcess, Launcher
from mesocosm.launcher.channel import Channel

logger = logging.getLogger(__name__)

_UNKNOWN = ContainerConfig(CommandInfo())


@dataclass(frozen=True, slots=True)
class Found:
    """The containers that there are, by what is to be done with them.

    The `running` are taken up, the `lost` are destroyed. Of the `past` there is nothing but how they ended.
    """

    running: list[Container] = field(default_factory=list)
    lost: list[Container] = field(default_factory=list)
    past: list[Container] = field(default_factory=list)

    @property
    def present(self) -> list[Container]:
        """Those of which there is more than a record, parents before their children."""
        return sorted([*self.running, *self.lost], key=lambda container: container.container_id.depth)

    def sort_in(self, container: Container) -> None:
        """Adds one to the list that it belongs to."""
        if container.orphan:
            self.lost.append(container)
        elif container.state is State.RUNNING:
            self.running.append(container)
        elif container.is_past:
            self.past.append(container)
        else:
            self.lost.append(container)


async def find_containers(
    checkpoints: Checkpoints,
    launcher: Launcher,
    boot_id: str,
    known: Collection[ContainerID] | None,
    *,
    strict: bool,
) -> Found:
    """What an earlier containerizer left; the containers that are not `known` are lost (None: all are known).

    Nothing is changed yet. Raises OSError, and RecoveryError for a file that is damaged or of a newer version; if not
    `strict`, what is on record of that container is set aside, and the container is lost.
    """
    found = Found()
    try:
        for container_id in checkpoints.containers(strict=strict):
            try:
                container = await _find_container(checkpoints, container_id, boot_id)
            except RecoveryError as error:
                if strict:
                    raise
                logger.error("%s; what is on record is now in %s", error.message, checkpoints.set_aside(container_id))
                container = _stray_container(container_id)
            container.orphan = known is not None and container_id not in known
            found.sort_in(container)
        for stray in await launcher.recover({container.container_id for container in (*found.present, *found.past)}):
            found.sort_in(_stray_container(stray))
    except BaseException:
        for container in found.present:
            container.release()
        raise
    return found


async def _find_container(checkpoints: Checkpoints, container_id: ContainerID, boot_id: str) -> Container:
    """The container as its directory and its processes tell of it. Raises RecoveryError for a damaged file.

    It is RUNNING if its init lives and was released. `is_past` if all of it was given back. Anything else is to be
    taken apart.
    """
    container = Container.create(container_id, checkpoints.config(container_id) or _UNKNOWN)
    container.started.set_result(None)
    container.termination = checkpoints.termination(container_id)
    launched = checkpoints.launched(container_id)
    if launched is None:
        container.is_past = container.termination is not None
        return container
    container.has_pid_namespace = launched.has_pid_namespace
    container.environment = launched.environment
    container.working_directory = launched.working_directory
    if container.termination is None:
        container.termination = Termination(None, message="it ended while nobody watched, and its status is unknown")
    container.init = InitProcess.find(launched.pid, launched.started) if launched.boot_id == boot_id else None
    if container.init is not None:
        await _connect(container, launched)
    return container


async def _connect(container: Container, launched: Launched) -> None:
    """Makes a container RUNNING again if its init can tell how it ends."""
    assert container.init is not None
    if launched.records_status:
        container.state = State.RUNNING
    elif sys.platform == "linux":
        container.channel = await Channel.take_over(container.init.descriptor)
        if container.channel is not None:
            container.state = State.RUNNING
    if container.state is State.RUNNING:
        container.termination = None


def _stray_container(container_id: ContainerID) -> Container:
    """A container of which there is nothing but what the launcher found."""
    container = Container.create(container_id, _UNKNOWN)
    container.started.set_result(None)
    container.orphan = True
    return container
