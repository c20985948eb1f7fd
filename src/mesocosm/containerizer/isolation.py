"""The isolators of a containerizer, each asked in its turn, and their answers put together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

from mesocosm.concurrency import together
from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, Resources
from mesocosm.errors import ContainerError
from mesocosm.isolators.base import NO_STATISTICS, NO_STATUS, ContainerState, Isolator
from mesocosm.isolators.selection import NamedIsolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.statistics import Limitation, ResourceStatistics

Part = TypeVar("Part", ResourceStatistics, ContainerStatus)


class Isolation:
    """The isolators, in the order they work in. Whatever one of them raises, MesocosmError or OSError, is raised."""

    def __init__(self) -> None:
        self._others: tuple[Isolator, ...] = ()
        self._named: tuple[NamedIsolator, ...] = ()
        self._able: dict[str, list[Isolator]] = {}

    @property
    def named(self) -> Sequence[NamedIsolator]:
        """Those that a flag names."""
        return self._named

    @named.setter
    def named(self, isolators: Sequence[NamedIsolator]) -> None:
        self._named = tuple(isolators)
        self._able.clear()

    def add(self, isolator: Isolator) -> None:
        """Takes one that no flag names: it is asked last, and cleans up first."""
        self._others = (*self._others, isolator)
        self._able.clear()

    @property
    def names(self) -> list[str]:
        """How `--isolation` names them."""
        return [named.name for named in self.named]

    def __iter__(self) -> Iterator[Isolator]:
        return itertools.chain((named.isolator for named in self._named), self._others)

    def _with(self, method: str) -> list[Isolator]:
        """Those of which a method does anything: most do nothing at most steps, which are taken for every container."""
        if (able := self._able.get(method)) is None:
            nothing = getattr(Isolator, method)
            able = [each for each in self if getattr(getattr(each, method), "__func__", None) is not nothing]
            self._able[method] = able
        return able

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Has the isolators take up `containers`, and know `orphans`."""
        for isolator in self:
            await isolator.recover(containers, orphans)

    async def complete(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """What was asked for, with what the isolators add to it."""
        for isolator in self._with("complete"):
            config = await isolator.complete(container_id, config)
        return config

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> list[LaunchInfo]:
        """What the launch shall do for the isolators. Those that may prepare later only announce it."""
        parts = []
        for isolator in self:
            ask = isolator.announce if isolator.concurrent else isolator.prepare
            parts.append(await ask(container_id, config))
        return [part for part in parts if part is not None]

    async def isolate(self, container_id: ContainerID, config: ContainerConfig, pid: int) -> None:
        """Has those prepare that may do so late, while the init sets the container up; then has all isolate it."""
        for isolator in self:
            if isolator.concurrent:
                await isolator.prepare(container_id, config)
        for isolator in self._with("isolate"):
            await isolator.isolate(container_id, pid)

    def joins(self, container_id: ContainerID) -> list[str]:
        """The cgroups of v1 that the init is to enter. Controllers that are mounted together have the same one."""
        return list(dict.fromkeys(group for isolator in self._with("joins") for group in isolator.joins(container_id)))

    def watch(self, container_id: ContainerID) -> list[asyncio.Future[Limitation]]:
        """Futures, one of which resolves when the container runs into a limit."""
        return [watch for isolator in self._with("watch") if (watch := isolator.watch(container_id)) is not None]

    async def limitation(self, container_id: ContainerID) -> Limitation | None:
        """The limit that the container has run into, if any."""
        for isolator in self._with("limitation"):
            if (limitation := await isolator.limitation(container_id)) is not None:
                return limitation
        return None

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Has the isolators apply new amounts."""
        for isolator in self._with("update"):
            await isolator.update(container_id, resources, limits)

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Has the isolators make the persistent volumes those of `config`."""
        for isolator in self._with("update_volumes"):
            await isolator.update_volumes(container_id, config, pidfd)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What the container uses of all that the isolators measure."""
        parts = [await isolator.usage(container_id) for isolator in self._with("usage")]
        return _measured(parts)

    async def last_usage(self, container_id: ContainerID, known: Sequence[ResourceStatistics]) -> ResourceStatistics:
        """What the container has used up to its end, as far as its launch has come; else what is `known`."""
        parts = list(known)
        for isolator in self._with("usage"):
            with contextlib.suppress(OSError, ContainerError):
                parts.append(await isolator.usage(container_id))
        return _measured(parts)

    async def status(self, container_id: ContainerID, known: ContainerStatus) -> ContainerStatus:
        """What the isolators know of the container, and what is `known` anyway."""
        parts = [await isolator.status(container_id) for isolator in self._with("status")]
        return united(ContainerStatus, [*parts, known])

    async def cleanup(self, container_id: ContainerID) -> None:
        """Has the isolators give back what they hold for a container, the last one first; all are asked.

        Raises ExceptionGroup.
        """
        errors: list[Exception] = []
        for isolator in reversed(self._with("cleanup")):
            try:
                await isolator.cleanup(container_id)
            except Exception as error:  # noqa: BLE001 - raised below, with those of the others.
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"cleanup of {container_id}", errors)

    async def close(self) -> None:
        """Has the isolators give back what they hold themselves. Raises ExceptionGroup."""
        await together(isolator.close() for isolator in self)


def _measured(parts: Iterable[ResourceStatistics]) -> ResourceStatistics:
    """What `parts` know, at this time."""
    return united(ResourceStatistics, parts, timestamp=time.time())


def united(kind: type[Part], parts: Iterable[Part], **said: Any) -> Part:
    """One value with what each of `parts` knows, of which later ones are believed more, and with what is `said`."""
    values, nothing = _VALUES[kind], _NOTHING[kind]
    known: Sequence[Any] = values(nothing)
    for part in parts:
        if part is nothing:
            continue
        known = [old if new is None else new for old, new in zip(known, values(part), strict=True)]
    return kind(**{**dict(zip(_NAMES[kind], known, strict=True)), **said})


_NOTHING: dict[type, Any] = {ResourceStatistics: NO_STATISTICS, ContainerStatus: NO_STATUS}
_NAMES = {kind: tuple(entry.name for entry in fields(kind)) for kind in (ResourceStatistics, ContainerStatus)}
_VALUES: dict[type, Callable[[object], tuple[Any, ...]]] = {kind: attrgetter(*names) for kind, names in _NAMES.items()}
"""All values of one of them, in one call: they are many, and read for every container."""
