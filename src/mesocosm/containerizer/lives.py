"""The lives of containers: each is one task, from its launch or its recovery until everything it held is given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.concurrency import Turns, give_way, take_back_cancellation, together
from mesocosm.container import RUNTIME_SEPARATOR, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.base import ContainerIO
from mesocosm.containerizer.ended import EndedContainers
from mesocosm.containerizer.launching import Launching
from mesocosm.containerizer.lifecycle import Container, Record, State
from mesocosm.containerizer.sandbox import remove_sandbox, remove_unused_sandbox
from mesocosm.containerizer.steps import Steps
from mesocosm.containerizer.supervision import KILLED, Supervision
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError, UnknownContainerError, leaves
from mesocosm.isolators.base import ContainerState
from mesocosm.launcher.client import LauncherProcess
from mesocosm.statistics import ResourceStatistics

if TYPE_CHECKING:
    from mesocosm.containerizer.recovery import Found

logger = logging.getLogger(__name__)

_LAUNCH_FAILED = "REASON_CONTAINER_LAUNCH_FAILED"


class Lives:
    """The containers that have not ended, by their ids, and the task that is the life of each.

    `destroy` cancels that task in any state but DESTROYING, and the same code takes the container apart, whatever had
    been made of it. `abandon` cancels it, too, and leaves the container as it is.
    """

    launching: Launching
    """What launches them, once the containerizer is started."""

    def __init__(
        self,
        steps: Steps,
        process: LauncherProcess,
        supervision: Supervision,
        ended: EndedContainers,
        work_dir: Path,
        *,
        final_usage: bool,
    ) -> None:
        """With `final_usage` each termination tells what the container used."""
        self._steps = steps
        self._process = process
        self._supervision = supervision
        self._checkpoints = supervision.checkpoints
        self._ended = ended
        self._sandboxes = work_dir / RUNTIME_SEPARATOR
        self._final_usage = final_usage
        self._containers: dict[ContainerID, Container] = {}
        self.destroy_errors = 0
        """How often a container could not be taken apart."""

    # Which there are.

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._containers.values()))

    def __contains__(self, container_id: ContainerID) -> bool:
        return container_id in self._containers

    def get(self, container_id: ContainerID) -> Container | None:
        """The container; None for one that is not known, or has ended."""
        return self._containers.get(container_id)

    def running(self, container_id: ContainerID) -> Container:
        """The container, which is RUNNING. Raises ContainerError."""
        container = self.released(container_id)
        if container.state is not State.RUNNING:
            raise _not_running(container)
        return container

    def released(self, container_id: ContainerID) -> Container:
        """The container, whose command runs, or may already. Raises ContainerError."""
        container = self._containers.get(container_id)
        if container is None:
            raise UnknownContainerError(f"there is no container {container_id} that has not ended")
        if not container.may_run:
            raise _not_running(container)
        return container

    def sandbox(self, container_id: ContainerID) -> Path:
        """The sandbox of a container that asks for no other; that of a nested one is in its parent's."""
        parent = None if container_id.parent is None else self.get(container_id.parent)
        if parent is not None and parent.config.directory is not None:
            return parent.config.directory / RUNTIME_SEPARATOR / container_id.value
        return self._sandboxes / container_id.join(RUNTIME_SEPARATOR)

    async def told(self, container_id: ContainerID | None) -> None:
        """Returns when it is known whether a container runs: its command may be faster than the word of that."""
        container = None if container_id is None else self.get(container_id)
        if container is not None and container.may_run and container.state is not State.RUNNING:
            await asyncio.wait([container.started])

    async def await_running(self, container_id: ContainerID) -> Container:
        """The container, which is RUNNING, when that is known. Raises ContainerError."""
        await self.told(container_id)
        return self.running(container_id)

    def check_parent(self, container: Container) -> None:
        """Raises ContainerError for one that is to be nested in nothing that runs."""
        if (parent := container.container_id.parent) is not None:
            self.running(parent)
        elif container.config.debug:
            raise ContainerError(f"{container.container_id} is a debug container, but is nested in no container")

    def add(self, container: Container) -> None:
        """Knows a container, which is the caller's to begin."""
        self._containers[container.container_id] = container
        if (parent := container.container_id.parent) is not None and parent in self._containers:
            self._containers[parent].children.add(container.container_id)

    def _forget(self, container: Container) -> None:
        del self._containers[container.container_id]
        if (parent := container.container_id.parent) is not None and parent in self._containers:
            self._containers[parent].children.discard(container.container_id)

    # What becomes of one.

    def begin(self, container: Container, io: ContainerIO | None) -> None:
        """Launches a container: its `started` tells what becomes of that."""

        async def start() -> None:
            above = container.container_id.parent
            parent = None if above is None else self.running(above)
            await self._steps.start(self.launching, self._supervision, container, parent, io)

        container.task = asyncio.create_task(self._live(container, start))

    async def take_up(self, found: Found) -> None:
        """Watches over the containers that an earlier containerizer has left, or ends them, if they are lost.

        Raises ExceptionGroup for what could not be ended, when all others are taken up, and OSError.
        """
        for container in found.past:
            self._ended.recover(container.container_id, container.termination or Termination(None))
        for container in found.present:
            self.add(container)
        isolation, turns = self._supervision.isolation, Turns()
        states = [
            ContainerState(container.container_id, container.config, container.init.pid if container.init else None)
            for container in found.running
        ]
        await isolation.recover(states, [container.container_id for container in found.lost])
        for container in found.running:
            container.watches = isolation.watch(container.container_id)
            container.task = asyncio.create_task(self._live(container, None))
            await turns.pause()
        for path in found.misplaced:
            self._checkpoints.set_aside(path)
        await together(self.destroy(container.container_id) for container in found.lost)

    def change(self, container: Container, config: ContainerConfig) -> None:
        """Records what a running container is from now on. Raises ContainerError if it has ended, and OSError."""
        if self.running(container.container_id) is not container:
            raise UnknownContainerError(f"{container.container_id} has ended while it was changed")
        self._checkpoints.create(container.container_id, config)
        container.config = config

    async def destroy(self, container_id: ContainerID) -> Termination | None:
        """Ends a container in any state, nested ones first; None for one that is not known.

        Raises ContainerError if something of it could not be given back; it can be called again then.
        """
        container = self._containers.get(container_id)
        if container is None:
            return self._ended.termination(container_id)
        if container.task is None or container.task.done():
            container.renew()
            container.task = asyncio.create_task(self._end(container, container.termination or KILLED))
        elif container.begun and not container.destroyed and container.state is not State.DESTROYING:
            container.task.cancel()  # Not while it takes the container apart, and not before it could notice.
        container.destroyed = True
        return await asyncio.shield(container.ended)

    async def destroy_incomplete(self) -> None:
        """Ends those whose commands do not run, nor may: nothing is left of their launches. Raises ExceptionGroup."""
        incomplete = [container for container in self if not container.may_run]
        for container in incomplete:
            if not container.started.done() and container.record is Record.KEPT:
                container.record = Record.REMOVED
        await together(self.destroy(container.container_id) for container in incomplete)

    async def abandon(self) -> None:
        """Stops watching over all of them. Raises ExceptionGroup."""
        try:
            await together(container.abandon() for container in self)
        finally:
            self._containers.clear()

    # Its course.

    async def _live(self, container: Container, start: Callable[[], Awaitable[None]] | None) -> None:
        """From its `start`, or without one from its recovery, until all is given back."""
        container.begun = True
        try:
            if container.destroyed:
                raise asyncio.CancelledError
            if start is not None:
                with self._process.busy():
                    await start()
                container.started.set_result(None)
                await give_way()  # A client hears that the command runs before anything is done about its end.
            termination = container.termination = await self._steps.supervise(self._supervision, container)
            container.recorded = self._ended.record(container.container_id, termination)
        except asyncio.CancelledError:
            if container.abandoned:
                return
            take_back_cancellation()
            termination = KILLED
        except Exception as error:  # noqa: BLE001 - goes to whoever launched it; the container must end in any case.
            container.failure = error
            termination = Termination(None, _LAUNCH_FAILED, str(error))
        await self._end(container, termination)

    async def _end(self, container: Container, termination: Termination) -> None:
        """DESTROYING: takes the container apart, tells everybody who waits, and forgets it if that succeeded."""
        container.enter(State.DESTROYING)
        try:
            with self._process.busy():
                termination = replace(termination, usage=await self._take_apart(container))
            await self._keep_record(container, termination)
        except Exception as error:  # noqa: BLE001 - goes to whoever waits; `destroy` can try again.
            reasons = [error] if container.failure is None else [container.failure, error]
            text = "; ".join(str(leaf) for reason in reasons for leaf in leaves(reason))
            self.destroy_errors += 1
            container.fail(ContainerError(f"{container.container_id} could not be taken apart: {text}"))
            return
        self._forget(container)
        logger.info("ended", extra={"container": container.container_id, "status": termination.exit_status})
        container.finish(termination)

    async def _take_apart(self, container: Container) -> ResourceStatistics | None:
        """Gives back all that was taken, in reverse order. Raises OSError or ExceptionGroup.

        What fails ends it, as each step needs the ones before: no mount goes before the processes that see it, and no
        root file system before its mounts. The next try begins with what is left.
        """
        container_id = container.container_id
        await self._steps.stop(container_id)
        await together(self.destroy(child) for child in list(container.children))
        usage = await self._supervision.last_usage(container) if self._final_usage else None
        await self.launching.launcher.destroy(
            container_id, container.init, has_pid_namespace=container.has_pid_namespace
        )
        await self._supervision.isolation.cleanup(container_id)
        if self.launching.provisioner is not None:
            await self.launching.provisioner.destroy(container_id)
        if container.channel is not None and (terminal := container.channel.take_terminal()) is not None:
            self._ended.keep_terminal(container_id, terminal)
        container.release()
        return usage

    async def _keep_record(self, container: Container, termination: Termination) -> None:
        """Keeps how a container ended that has run; removes what is left of any other. Raises OSError."""
        container_id = container.container_id
        never_ran = container.failure is not None and not container.started.done()
        if not never_ran and container.record is Record.KEPT:
            recorded = container.recorded and termination == container.termination
            self._ended.add(container_id, termination, recorded=recorded)
            return
        self._ended.close_terminals(container_id)
        if container.record is Record.SET_ASIDE:
            self._checkpoints.set_aside(self._checkpoints.directory(container_id))
        self._checkpoints.remove(container_id)
        await asyncio.to_thread(self._remove_new_sandbox, container)

    def _remove_new_sandbox(self, container: Container) -> None:
        """Removes the sandbox of a launch that has failed; one that may be older, if nothing is in it."""
        container_id, directory = container.container_id, container.config.directory
        if directory is not None and container.made_sandbox:
            remove_sandbox(container_id, directory)
        elif directory is not None and directory == self.sandbox(container_id).absolute():
            remove_unused_sandbox(container_id, directory)


def _not_running(container: Container) -> ContainerError:
    return ContainerError(f"{container.container_id} is not running, but {container.state.value}")
