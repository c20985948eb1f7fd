"""Hooks: what other packages do at certain moments of the life of an agent and its containers (`--hooks`)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, FlagError
from mesocosm.plugins import find

if TYPE_CHECKING:
    from mesocosm.api import v1

Argument = TypeVar("Argument")

logger = logging.getLogger(__name__)

ENTRY_POINTS = "mesocosm.hooks"


class Hook:
    """One method for each moment, which does nothing until it is overridden.

    Packages name theirs in the entry point group `mesocosm.hooks`. They are made without arguments, and run in the
    event loop: what blocks belongs into `asyncio.to_thread`, and nothing does where a method cannot wait.
    """

    # Of the agent, when it starts. Whatever they raise ends it.

    def resources(self, resources: Sequence[v1.Resource]) -> Sequence[v1.Resource] | None:
        """What the agent offers instead of `resources`; None: those."""
        return None

    def attributes(self, attributes: Sequence[v1.Attribute]) -> Sequence[v1.Attribute] | None:
        """The attributes that the agent has instead of these; None: these."""
        return None

    # Of a container.

    async def pre_launch(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig | None:
        """Before the launch: what is to be launched instead, such as one with more variables; None: as it is.

        Whatever it raises fails the launch.
        """
        return None

    async def pre_launch_docker(
        self,
        container_id: ContainerID,
        config: ContainerConfig,
        executor: v1.ExecutorInfo,
        task: v1.TaskInfo | None,
    ) -> ContainerConfig | None:
        """The same before Docker makes the container of an executor, or of a `task` that has no other one.

        It is called before `pre_launch`, which does not know what for the container is. The variables of a task's
        container are the `environment`; those of the executor beside it are the `program_environment`.
        """
        return None

    async def post_fetch(self, container_id: ContainerID, sandbox: Path) -> None:
        """When what the container needs is fetched into its sandbox, before its command starts.

        What it raises is logged, and the launch goes on. The sandbox belongs to the container's user, who may have put
        links there if the container was launched before.
        """

    # Of a task. What they raise is logged, and all goes on as if they had returned None.

    def task_labels(
        self, task: v1.TaskInfo, executor: v1.ExecutorInfo, framework: v1.FrameworkInfo
    ) -> v1.Labels | None:
        """The labels that a task has which a master wants to be run; None: its own."""
        return None

    def task_status(self, framework_id: str, status: v1.TaskStatus) -> v1.TaskStatus | None:
        """A status of which the labels and the `container_status` are to be in an update; None: it is sent as it is."""
        return None

    async def executor_removed(self, framework: v1.FrameworkInfo, executor: v1.ExecutorInfo) -> None:
        """When an executor has ended, and nothing of it but its sandbox is kept."""


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

    def resources(self, resources: Sequence[v1.Resource]) -> tuple[v1.Resource, ...]:
        """What the agent offers: each hook is given what the one before made of it. Raises FlagError."""
        for name, hook in self.named:
            resources = _asked(name, hook.resources, resources)
        return tuple(resources)

    def attributes(self, attributes: Sequence[v1.Attribute]) -> tuple[v1.Attribute, ...]:
        """The attributes of the agent, in the same way. Raises FlagError."""
        for name, hook in self.named:
            attributes = _asked(name, hook.attributes, attributes)
        return tuple(attributes)

    async def pre_launch(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """What is to be launched: each hook is given what the one before made of it. Raises ContainerError."""

        def ask(hook: Hook, config: ContainerConfig) -> Awaitable[ContainerConfig | None]:
            return hook.pre_launch(container_id, config)

        return await self._before_launch(container_id, config, ask)

    async def pre_launch_docker(
        self,
        container_id: ContainerID,
        config: ContainerConfig,
        executor: v1.ExecutorInfo,
        task: v1.TaskInfo | None,
    ) -> ContainerConfig:
        """The same for a container that Docker makes. Raises ContainerError."""

        def ask(hook: Hook, config: ContainerConfig) -> Awaitable[ContainerConfig | None]:
            return hook.pre_launch_docker(container_id, config, executor, task)

        return await self._before_launch(container_id, config, ask)

    async def _before_launch(
        self,
        container_id: ContainerID,
        config: ContainerConfig,
        ask: Callable[[Hook, ContainerConfig], Awaitable[ContainerConfig | None]],
    ) -> ContainerConfig:
        for name, hook in self.named:
            try:
                changed = await ask(hook, config)
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise ContainerError(f"{container_id}: the hook {name!r} refuses the launch: {reason}") from error
            if changed is not None:
                config = changed
        return config

    async def post_fetch(self, container_id: ContainerID, sandbox: Path) -> None:
        """Calls every hook, also after one that failed."""
        for name, hook in self.named:
            with _logged(name, f"{container_id}, after the fetch"):
                await hook.post_fetch(container_id, sandbox)

    def label(self, task: v1.TaskInfo, executor: v1.ExecutorInfo, framework: v1.FrameworkInfo) -> None:
        """Changes the labels of a task: each hook is shown what the one before made of them."""
        for name, hook in self.named:
            with _logged(name, f"the task {task.task_id.value}"):
                if (labels := hook.task_labels(task, executor, framework)) is not None:
                    task.labels.CopyFrom(labels)

    def complete(self, framework_id: str, status: v1.TaskStatus) -> None:
        """Changes the labels and the container of a status, in the same way."""
        for name, hook in self.named:
            with _logged(name, f"an update of the task {status.task_id.value}"):
                if (changed := hook.task_status(framework_id, status)) is None:
                    continue
                if changed.HasField("labels"):
                    status.labels.CopyFrom(changed.labels)
                if changed.HasField("container_status"):
                    status.container_status.CopyFrom(changed.container_status)

    async def executor_removed(self, framework: v1.FrameworkInfo, executor: v1.ExecutorInfo) -> None:
        """Calls every hook, also after one that failed."""
        for name, hook in self.named:
            with _logged(name, f"the end of the executor {executor.executor_id.value}"):
                await hook.executor_removed(framework, executor)


def _make(name: str) -> Hook:
    kind = find("hooks", ENTRY_POINTS, name, Hook)
    try:
        return kind()
    except Exception as error:
        raise FlagError(f"--hooks: {name!r} cannot be made: {error}") from error


def _asked(name: str, method: Callable[[Argument], Argument | None], argument: Argument) -> Argument:
    """What a hook makes of something. Raises FlagError where it raises anything."""
    try:
        changed = method(argument)
    except Exception as error:
        raise FlagError(f"--hooks: {name!r} refuses the {method.__name__} of the agent: {error}") from error
    return argument if changed is None else changed


@contextlib.contextmanager
def _logged(name: str, what: str) -> Iterator[None]:
    """Goes on after whatever a hook raises."""
    try:
        yield
    except Exception:
        logger.exception("%s: the hook %r failed", what, name)
