"""Several containerizers that act as one, whatever they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import pytest

from mesocosm.container import (
    CommandInfo,
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    ContainerType,
    PersistentVolume,
    Resources,
    Termination,
)
from mesocosm.containerizer.base import ContainerIO, Containerizer, LaunchResult, Times
from mesocosm.containerizer.composing import ComposingContainerizer
from mesocosm.containerizer.selection import create_containerizer
from mesocosm.errors import ContainerError, FlagError, RecoveryError, UnknownContainerError
from mesocosm.flags import Flags
from mesocosm.images.store import Pruned
from mesocosm.statistics import ResourceStatistics
from mesocosm.switchboard.switchboard import Switchboard

X = ContainerID("x")
INNER = ContainerID("inner", parent=X)
MESOS = ContainerConfig(CommandInfo("true"))
DOCKER = ContainerConfig(CommandInfo("true"), type=ContainerType.DOCKER)
ENDED = Termination(0)

Result = TypeVar("Result")


class Standin:
    """A containerizer that supports one type and does nothing but keep account; `decides` holds up its launches."""

    def __init__(self, kind: ContainerType, *, found: Collection[ContainerID] = ()) -> None:
        self.kind = kind
        self.found = found
        self.decides = asyncio.Event()
        self.decides.set()
        self.began = asyncio.Event()
        self.running: dict[ContainerID, ContainerConfig] = {}
        self.ended: dict[ContainerID, ContainerConfig] = {}
        self.asked: list[tuple[str, ContainerID]] = []
        self.failure: Exception | None = None
        self.destroy_errors = 1
        self.provisioner = None
        self.pruned: Pruned | None = None
        self.is_open = False

    @property
    def isolation(self) -> list[str]:
        return [self.kind.value.lower()]

    def start(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.is_open = True

    def warm_up_programs(self) -> None:
        self.asked.append(("warm_up_programs", X))

    def time_pulls(self, record: Callable[[str, float], None]) -> None:
        record(self.kind.value, 1.0)

    async def recover(self, known: Collection[ContainerID] | None = None, *, strict: bool = True) -> None:
        self.running = dict.fromkeys(self.found, MESOS)
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        self.is_open = False

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        self.asked.append(("launch", container_id))
        self.began.set()
        await self.decides.wait()
        if config.type is not self.kind:
            return LaunchResult.NOT_SUPPORTED
        if self.failure is not None:
            raise self.failure
        self.running[container_id] = config
        return LaunchResult.SUCCESS

    async def attach(self, container_id: ContainerID) -> int:
        return self._ask("attach", container_id, 3)

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        self._ask("update", container_id, None)

    async def update_volumes(self, container_id: ContainerID, volumes: tuple[PersistentVolume, ...]) -> None:
        self._ask("update_volumes", container_id, None)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        return self._ask("usage", container_id, ResourceStatistics(timestamp=1.0))

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        return self._ask("status", container_id, ContainerStatus(container_id))

    async def wait(self, container_id: ContainerID) -> Termination:
        return self._ask("wait", container_id, ENDED)

    async def destroy(self, container_id: ContainerID) -> Termination | None:
        self.asked.append(("destroy", container_id))
        await self.decides.wait()
        if container_id not in self.running:
            return None
        self.ended[container_id] = self.running.pop(container_id)
        return ENDED

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        return self._ask("kill", container_id, True)

    async def remove(self, container_id: ContainerID) -> None:
        self._ask("remove", container_id, None)
        del self.ended[container_id]

    async def prune_images(self, excluded: Collection[str] = ()) -> Pruned | None:
        return self.pruned

    async def containers(self) -> set[ContainerID]:
        return set(self.running)

    def terminated(self) -> set[ContainerID]:
        return set(self.ended)

    def knows(self, container_id: ContainerID) -> bool:
        return container_id in self.running or container_id in self.ended

    def pending(self) -> dict[ContainerID, str]:
        return dict.fromkeys(self.running, "PULLING")

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        return self.running.get(container_id)

    def recorded(self, container_id: ContainerID) -> ContainerConfig | None:
        return self.running.get(container_id) or self.ended.get(container_id)

    def sandbox(self, container_id: ContainerID) -> Path:
        return Path("/sandboxes", self.kind.value, str(container_id))

    def times(self, container_id: ContainerID) -> Times:
        return Times(launched=1.0) if self.knows(container_id) else Times()

    def gauges(self) -> dict[str, Callable[[], float]]:
        return {f"{self.kind.value.lower()}/left": lambda: 1}

    def _ask(self, what: str, container_id: ContainerID, answer: Result) -> Result:
        if not self.knows(container_id.root):
            raise UnknownContainerError(f"there is no container {container_id}")
        self.asked.append((what, container_id))
        return answer


def standins() -> tuple[Standin, Standin, ComposingContainerizer]:
    """One that supports each type, and both as one."""
    first, second = Standin(ContainerType.MESOS), Standin(ContainerType.DOCKER)
    return first, second, ComposingContainerizer([first, second])


async def launching(composing: Containerizer, first: Standin, config: ContainerConfig) -> asyncio.Task[LaunchResult]:
    """A launch that `first` does not decide on yet."""
    first.decides.clear()
    task = asyncio.create_task(composing.launch(X, config))
    await first.began.wait()
    return task


# Whose a container becomes.


async def test_the_first_that_supports_it_launches_it() -> None:
    first, second, composing = standins()
    assert await composing.launch(X, DOCKER) is LaunchResult.SUCCESS
    assert first.asked == second.asked == [("launch", X)]
    y = ContainerID("y")
    assert await composing.launch(y, MESOS) is LaunchResult.SUCCESS
    assert second.asked == [("launch", X)], "it is not asked when another does it"
    assert await composing.containers() == {X, y}
    assert composing.config(X) is DOCKER
    assert await composing.launch(X, MESOS) is LaunchResult.ALREADY_LAUNCHED


async def test_none_supports_it() -> None:
    first = Standin(ContainerType.MESOS)
    composing = ComposingContainerizer([first, Standin(ContainerType.MESOS)])
    assert await composing.launch(X, DOCKER) is LaunchResult.NOT_SUPPORTED
    assert not composing.knows(X)


async def test_a_launch_that_fails_is_not_tried_elsewhere() -> None:
    first, second, composing = standins()
    first.failure = ContainerError("no way")
    with pytest.raises(ContainerError, match="no way"):
        await composing.launch(X, MESOS)
    assert second.asked == []
    assert not composing.knows(X)


async def test_a_nested_container_is_for_whichever_has_the_outer_one() -> None:
    first, _, composing = standins()
    await composing.launch(X, DOCKER)
    first.asked.clear()
    assert await composing.launch(INNER, MESOS) is LaunchResult.NOT_SUPPORTED
    assert first.asked == [], "although it supports the type"
    assert await composing.launch(INNER, DOCKER) is LaunchResult.SUCCESS
    assert await composing.wait(INNER) == ENDED
    with pytest.raises(UnknownContainerError, match="there is no container y"):
        await composing.launch(ContainerID("inner", parent=ContainerID("y")), MESOS)


async def test_every_call_goes_to_the_owner() -> None:
    first, second, composing = standins()
    await composing.launch(X, DOCKER)
    first.asked.clear()
    assert await composing.attach(X) == 3
    await composing.update(X, Resources(), Resources())
    await composing.update_volumes(X, ())
    assert (await composing.usage(X)).timestamp == 1.0
    assert (await composing.status(X)).container_id == X
    assert await composing.kill(X, 9)
    assert composing.sandbox(X) == Path("/sandboxes/DOCKER/x")
    assert await composing.destroy(X) == ENDED
    assert await composing.wait(X) == ENDED, "also when it has ended"
    assert composing.terminated() == {X}
    assert composing.times(X) == Times(launched=1.0)
    assert composing.config(X) is None
    assert composing.recorded(X) is DOCKER
    await composing.remove(X)
    assert first.asked == []
    asked = [what for what, _ in second.asked]
    while_it_runs = ["attach", "update", "update_volumes", "usage", "status", "kill"]
    assert asked == ["launch", *while_it_runs, "destroy", "wait", "remove"]
    assert not composing.knows(X)


async def test_what_is_known_to_none() -> None:
    _, _, composing = standins()
    assert await composing.destroy(X) is None
    assert composing.config(X) is composing.recorded(X) is None
    assert composing.times(X) == Times()
    with pytest.raises(UnknownContainerError, match="there is no container x"):
        await composing.wait(X)
    for call in (composing.usage(X), composing.status(X), composing.kill(X, 9), composing.remove(X)):
        with pytest.raises(UnknownContainerError):
            await call


# Destroyed while it is launched.


async def test_destroyed_before_the_one_that_does_not_support_it_says_so() -> None:
    first, second, composing = standins()
    launch = await launching(composing, first, DOCKER)
    assert composing.knows(X)
    assert await composing.launch(X, DOCKER) is LaunchResult.ALREADY_LAUNCHED
    destroyed = asyncio.create_task(composing.destroy(X))
    await asyncio.sleep(0)
    assert first.asked[-1] == ("destroy", X)
    first.decides.set()
    with pytest.raises(ContainerError, match="destroyed while it was launched"):
        await launch
    assert await destroyed is None
    assert second.asked == []
    assert not composing.knows(X)


async def test_destroyed_while_the_one_that_supports_it_launches_it() -> None:
    first, second, composing = standins()
    launch = await launching(composing, first, MESOS)
    destroyed = asyncio.create_task(composing.destroy(X))
    await asyncio.sleep(0)
    first.decides.set()
    assert await launch is LaunchResult.SUCCESS
    assert await destroyed == ENDED
    assert second.asked == []


async def test_destroyed_while_the_last_one_decides() -> None:
    first = Standin(ContainerType.MESOS)
    composing = ComposingContainerizer([first])
    launch = await launching(composing, first, DOCKER)
    destroyed = asyncio.create_task(composing.destroy(X))
    await asyncio.sleep(0)
    assert first.asked[-1] == ("destroy", X)
    first.decides.set()
    assert await launch is LaunchResult.NOT_SUPPORTED
    assert await destroyed is None


# Beginning and end.


async def test_all_recover_and_one_that_cannot_is_told() -> None:
    y = ContainerID("y")
    first, second = Standin(ContainerType.MESOS, found=[X]), Standin(ContainerType.DOCKER, found=[y])
    composing = ComposingContainerizer([first, second])
    first.failure = ExceptionGroup("containers", [ContainerError("x stays")])
    with pytest.raises(ExceptionGroup) as group:
        await composing.recover()
    assert await composing.containers() == {X, y}, "the rest is recovered"
    assert composing.pending().keys() == {X, y}
    assert "x stays" in repr(group.value.exceptions)
    second.failure = RecoveryError("damaged")
    with pytest.raises(RecoveryError, match="damaged"):
        await composing.recover()


async def test_what_was_started_is_closed_where_another_cannot_be() -> None:
    first, second, composing = standins()
    second.failure = FlagError("--docker: there is no program 'docker'")
    with pytest.raises(FlagError):
        composing.start()
    assert first.is_open
    await composing.close()
    assert not first.is_open


async def test_what_they_have_is_added_up() -> None:
    first, second, composing = standins()
    assert composing.isolation == ["mesos", "docker"]
    assert composing.destroy_errors == 2
    assert composing.gauges().keys() == {"mesos/left", "docker/left"}
    assert composing.provisioner is None
    assert await composing.prune_images() is None
    second.pruned = Pruned((), 0, 0)
    assert await composing.prune_images() is second.pruned
    pulls: dict[str, float] = {}
    composing.time_pulls(pulls.__setitem__)
    assert pulls == {"MESOS": 1.0, "DOCKER": 1.0}
    composing.warm_up_programs()
    assert first.asked == second.asked == [("warm_up_programs", X)]


def test_one_alone_is_not_wrapped() -> None:
    async def nothing(*_: object) -> ContainerIO:
        return ContainerIO()

    alone = create_containerizer(["mesos"], Flags(), nothing, nothing, Switchboard())
    assert not isinstance(alone, ComposingContainerizer)
    with pytest.raises(FlagError, match="--containerizers names none"):
        create_containerizer([], Flags(), nothing, nothing, Switchboard())
