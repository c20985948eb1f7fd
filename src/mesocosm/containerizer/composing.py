"""Several containerizers that act as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.concurrency import together
from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    PersistentVolume,
    Resources,
    Termination,
)
from mesocosm.containerizer.base import ContainerIO, Containerizer, LaunchResult, Times
from mesocosm.dataclass import dataclass
from mesocosm.errors import ContainerError, UnknownContainerError
from mesocosm.statistics import ResourceStatistics

if TYPE_CHECKING:
    from mesocosm.images.provisioner import Provisioner
    from mesocosm.images.store import Pruned


@dataclass(slots=True)
class _Attempt:
    """A launch on its way: the containerizer that is asked now, and whether the container was destroyed meanwhile."""

    containerizer: Containerizer
    destroyed: bool = False


class ComposingContainerizer:
    """Launches each container by the first of several containerizers that supports it, which sees to it from then on.

    A nested container is for whichever has the top-level one. Source: slave/containerizer/composing.cpp.
    """

    def __init__(self, containerizers: Sequence[Containerizer]) -> None:
        """`containerizers` are asked in this order, of which there is one at least."""
        self._containerizers = tuple(containerizers)
        self._attempts: dict[ContainerID, _Attempt] = {}

    @property
    def destroy_errors(self) -> int:
        """How often a container could not be taken apart."""
        return sum(each.destroy_errors for each in self._containerizers)

    @property
    def isolation(self) -> list[str]:
        """The names of the isolators that any of them has."""
        return [name for each in self._containerizers for name in each.isolation]

    @property
    def provisioner(self) -> Provisioner | None:
        """That of the first that has one."""
        return next((each.provisioner for each in self._containerizers if each.provisioner is not None), None)

    # Beginning and end.

    def start(self) -> None:
        """Makes all of them ready. Raises FlagError or OSError; what was taken by then, `close` gives back."""
        for each in self._containerizers:
            each.start()

    def time_pulls(self, record: Callable[[str, float], None]) -> None:
        """Has `record` called for each image that has come to any of them."""
        for each in self._containerizers:
            each.time_pulls(record)

    def warm_up_programs(self) -> None:
        """Has ready what the first container of a built-in program would wait for. Raises OSError."""
        for each in self._containerizers:
            each.warm_up_programs()

    async def recover(self, known: Collection[ContainerID] | None = None, *, strict: bool = True) -> None:
        """Has all of them take up their containers, at the same time.

        Raises what the first one raised that could not do so, and else ExceptionGroup for what could not be destroyed.
        """
        recoveries = (each.recover(known, strict=strict) for each in self._containerizers)
        results = await asyncio.gather(*recoveries, return_exceptions=True)
        errors = [result for result in results if isinstance(result, Exception)]
        for error in errors:
            if not isinstance(error, ExceptionGroup):
                raise error
        if errors:
            raise ExceptionGroup("containers", errors)

    async def close(self) -> None:
        """Lets go of everything, also where one of them cannot. Containers go on. Raises ExceptionGroup."""
        await together(each.close() for each in self._containerizers)

    # What can be done with a container.

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        """Launches a container by the first that supports it. Raises what that does.

        Raises ContainerError for one that was destroyed before it came to those which might have supported it.
        """
        if self.knows(container_id):
            return LaunchResult.ALREADY_LAUNCHED
        if container_id.parent is not None:
            return await self._owner(container_id).launch(container_id, config, io)
        attempt = self._attempts[container_id] = _Attempt(self._containerizers[0])
        try:
            for each in self._containerizers:
                if attempt.destroyed:
                    raise ContainerError(f"{container_id} was destroyed while it was launched")
                attempt.containerizer = each
                result = await each.launch(container_id, config, io)
                if result is not LaunchResult.NOT_SUPPORTED:
                    return result
            return LaunchResult.NOT_SUPPORTED
        finally:
            del self._attempts[container_id]

    async def attach(self, container_id: ContainerID) -> int:
        """The master of the container's terminal, which then is the caller's."""
        return await self._owner(container_id).attach(container_id)

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes what a running container may use."""
        await self._owner(container_id).update(container_id, resources, limits)

    async def update_volumes(self, container_id: ContainerID, volumes: tuple[PersistentVolume, ...]) -> None:
        """Changes which persistent volumes a running container has."""
        await self._owner(container_id).update_volumes(container_id, volumes)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What a running container uses."""
        return await self._owner(container_id).usage(container_id)

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What a running container is."""
        return await self._owner(container_id).status(container_id)

    async def wait(self, container_id: ContainerID) -> Termination:
        """How the container ended, when it has."""
        return await self._owner(container_id).wait(container_id)

    async def destroy(self, container_id: ContainerID) -> Termination | None:
        """Ends a container in any state; None for one that is not known.

        One that is being launched is destroyed by whichever is asked to launch it, as nobody knows whether that does.
        """
        if (attempt := self._attempts.get(container_id)) is not None:
            attempt.destroyed = True
        owner = self._find(container_id)
        return None if owner is None else await owner.destroy(container_id)

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        """Sends a signal to the container's command; False if that has ended."""
        return await self._owner(container_id).kill(container_id, number)

    async def remove(self, container_id: ContainerID) -> None:
        """Forgets a container that has ended, and its sandbox."""
        await self._owner(container_id).remove(container_id)

    async def prune_images(self, excluded: Collection[str] = ()) -> Pruned | None:
        """Deletes the images that no container uses, but those `excluded`; None where none of them has any."""
        pruned = [await each.prune_images(excluded) for each in self._containerizers]
        return next((each for each in pruned if each is not None), None)

    # What there is.

    async def containers(self) -> set[ContainerID]:
        """The containers that have not ended."""
        return {container_id for each in self._containerizers for container_id in await each.containers()}

    def terminated(self) -> set[ContainerID]:
        """Those that have, and were not removed."""
        return {container_id for each in self._containerizers for container_id in each.terminated()}

    def knows(self, container_id: ContainerID) -> bool:
        """Whether it is one of either, or about to be launched."""
        return container_id in self._attempts or any(each.knows(container_id) for each in self._containerizers)

    def pending(self) -> dict[ContainerID, str]:
        """Those that are on their way to run, or to end, and where they are on it."""
        return {container_id: state for each in self._containerizers for container_id, state in each.pending().items()}

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        """What was asked of a container; None for one that is not known, or has ended."""
        owner = self._find(container_id)
        return None if owner is None else owner.config(container_id)

    def recorded(self, container_id: ContainerID) -> ContainerConfig | None:
        """The same, also of one that has ended and was not removed. Raises RecoveryError for a damaged record."""
        owner = self._find(container_id)
        return None if owner is None else owner.recorded(container_id)

    def sandbox(self, container_id: ContainerID) -> Path:
        """The sandbox of a container that asked for no other, which is the same for all of them."""
        return (self._find(container_id) or self._containerizers[0]).sandbox(container_id)

    def times(self, container_id: ContainerID) -> Times:
        """When a container was launched and when it ended, as far as that is known. Raises OSError."""
        owner = self._find(container_id)
        return Times() if owner is None else owner.times(container_id)

    def gauges(self) -> dict[str, Callable[[], float]]:
        """Numbers for metrics, by their names."""
        return {name: value for each in self._containerizers for name, value in each.gauges().items()}

    # Whose a container is.

    def _find(self, container_id: ContainerID) -> Containerizer | None:
        """Whoever has the top-level container that this one is or is nested in; None for an unknown one."""
        root = container_id.root
        if (attempt := self._attempts.get(root)) is not None:
            return attempt.containerizer
        return next((each for each in self._containerizers if each.knows(root)), None)

    def _owner(self, container_id: ContainerID) -> Containerizer:
        owner = self._find(container_id)
        if owner is None:
            raise UnknownContainerError(f"there is no container {container_id.root}")
        return owner
