"""Finding out what became of the containers of a containerizer that is gone."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from mesocosm.concurrency import Turns, together
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.checkpoint import Checkpoints, Launched
from mesocosm.containerizer.lifecycle import Container, Record, State
from mesocosm.dataclass import dataclass, field
from mesocosm.errors import RecoveryError, leaves
from mesocosm.launcher.base import InitProcess, Launcher
from mesocosm.launcher.channel import Channel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The containers that there are, by what is to be done with them.

    The `running` are taken up, the `lost` are destroyed. Of the `past` there is nothing but how they ended. What is
    `misplaced` cannot be the directory of a container.
    """

    running: list[Container] = field(default_factory=list)
    lost: list[Container] = field(default_factory=list)
    past: list[Container] = field(default_factory=list)
    misplaced: list[Path] = field(default_factory=list)

    @property
    def present(self) -> list[Container]:
        """Those of which there is more than a record, parents before their children."""
        return sorted([*self.running, *self.lost], key=lambda container: container.container_id.depth)

    def sort_in(self, container: Container) -> None:
        """Adds one to the list that it belongs to."""
        if container.record is not Record.KEPT:
            self.lost.append(container)
        elif container.state is State.RUNNING:
            self.running.append(container)
        elif container.launched is None:
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

    Nothing is changed. Raises OSError, and RecoveryError for a file that is damaged or of a newer version, or where no
    container has one; if not `strict`, that container is lost.
    """
    misplaced: list[Path] = []
    names = checkpoints.containers(None if strict else misplaced)
    containers: dict[ContainerID, Container] = {}
    try:
        turns, inits = Turns(), {}
        for container_id in names:
            await turns.pause()
            container = containers[container_id] = _new_container(container_id)
            try:
                launched = _read(container, checkpoints)
            except RecoveryError as error:
                if strict:
                    raise
                logger.error("%s; the container is destroyed", error.message)
                launched = _read_what_is_left(container, checkpoints)
            inits[container_id] = None if launched is None else _find_init(container, launched, boot_id)
        await _connect_all(containers.values())
        for container_id in await launcher.recover(inits):
            containers[container_id] = _new_container(container_id)
            containers[container_id].record = Record.REMOVED
    except BaseException:
        for container in containers.values():
            container.release()
        raise
    return _sorted(containers, known, misplaced)


def _sorted(
    containers: dict[ContainerID, Container], known: Collection[ContainerID] | None, misplaced: list[Path]
) -> Found:
    """Parents come before their children: no record is kept of what is nested in one of which none is."""
    found = Found(misplaced=misplaced)
    for container_id, container in containers.items():
        parent = None if container_id.parent is None else containers.get(container_id.parent)
        is_unknown = known is not None and container_id not in known
        if container.record is Record.KEPT and (
            is_unknown or (parent is not None and parent.record is not Record.KEPT)
        ):
            container.record = Record.REMOVED
        found.sort_in(container)
    return found


def _new_container(container_id: ContainerID) -> Container:
    """A container of which nothing is known yet, but that it is not about to start."""
    container = Container.create(container_id, ContainerConfig(CommandInfo()))
    container.started.set_result(None)
    return container


def _read(container: Container, checkpoints: Checkpoints) -> Launched | None:
    """Fills in what is on record; returns how it was launched, unless only the record of its end is left.

    None is kept of one whose launch was not complete: nobody was told that it runs, and it never did. Raises OSError,
    and RecoveryError for a damaged file.
    """
    container_id = container.container_id
    container.config = checkpoints.config(container_id) or container.config
    container.termination = checkpoints.termination(container_id)
    container.recorded = container.termination is not None
    launched = checkpoints.launched(container_id)
    if launched is None and not container.recorded:
        container.record = Record.REMOVED
    if launched is not None and not container.recorded:
        container.termination = Termination(None, message="it ended while nobody watched, and its status is unknown")
    return launched


def _read_what_is_left(container: Container, checkpoints: Checkpoints) -> Launched | None:
    """How a container was launched whose record is damaged, if that can be told: its init has to end."""
    container.record = Record.SET_ASIDE
    with contextlib.suppress(RecoveryError):
        return checkpoints.launched(container.container_id)
    return None


def _find_init(container: Container, launched: Launched, boot_id: str) -> int | None:
    """Finds the init, if it lives; returns its pid, which may name a session without it, unless it is of another boot.

    Raises OSError.
    """
    container.launched = launched
    if launched.boot_id != boot_id:
        return None
    container.init = InitProcess.find(launched.pid, launched.started)
    return launched.pid


async def _connect_all(containers: Iterable[Container]) -> None:
    """Connects those whose init lives, at the same time, as each may have to be waited for. Raises OSError."""
    try:
        await together(_connect(each) for each in containers if each.record is not Record.SET_ASIDE)
    except ExceptionGroup as errors:
        raise next(leaves(errors)) from errors


async def _connect(container: Container) -> None:
    """Makes a container RUNNING again if its init lives, and can tell how it ends. Raises OSError."""
    if container.init is None or container.launched is None:
        return
    if container.launched.records_status:
        container.state = State.RUNNING
    elif sys.platform == "linux":
        container.channel = await Channel.take_over(container.init.descriptor)
        if container.channel is not None:
            container.state = State.RUNNING
    if container.state is State.RUNNING:
        container.termination = None
