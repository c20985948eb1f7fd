"""Finding out what became of the containers of a containerizer that is gone."""

from __future__ import annotations

import sys

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.checkpoint import Checkpoints, Launched
from mesocosm.containerizer.lifecycle import Container, State
from mesocosm.launcher.base import InitProcess
from mesocosm.launcher.channel import Channel

_UNKNOWN = ContainerConfig(CommandInfo())


async def find_container(checkpoints: Checkpoints, container_id: ContainerID, boot_id: str) -> Container:
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


def stray_container(container_id: ContainerID) -> Container:
    """A container of which there is nothing but what the launcher found."""
    container = Container.create(container_id, _UNKNOWN)
    container.started.set_result(None)
    container.orphan = True
    return container
