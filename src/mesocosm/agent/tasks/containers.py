"""The containers of executors: what each is asked to be, and what is done with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from mesocosm.agent.domain_socket import DomainSocket
from mesocosm.agent.tasks import allocation
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.task import Stage
from mesocosm.api import convert, v1, validation
from mesocosm.api.v1.agent import Call
from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    ContainerType,
    Termination,
    Volume,
    VolumeMode,
)
from mesocosm.containerizer.base import Containerizer, LaunchResult
from mesocosm.containerizer.command import find_credentials
from mesocosm.containerizer.sandbox import open_sandbox
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError, MesocosmError, UnknownContainerError
from mesocosm.hooks import Hooks

logger = logging.getLogger(__name__)

Launch = Callable[[ContainerID, ContainerConfig], Awaitable[LaunchResult]]

COMMAND_EXECUTOR = "command-executor"
DEFAULT_EXECUTOR = "default-executor"
DOCKER_EXECUTOR = "docker-executor"


class Containers:
    """Those of one containerizer, launched by `launch`."""

    def __init__(
        self,
        containerizer: Containerizer,
        launch: Launch,
        config_of: Callable[[ContainerID], ContainerConfig | None],
        sandboxes: Path,
        domain_socket: DomainSocket | None,
        default: v1.ContainerInfo | None,
        hooks: Hooks,
        *,
        switch_user: bool,
        cpus_are_bounded: bool,
    ) -> None:
        """`config_of` also knows containers that have ended. Executors', and no others, have theirs in `sandboxes`.

        `default` is what a container is that an executor does not describe. With files of its own it sees
        `domain_socket`, too, if there is one.
        """
        self._containerizer = containerizer
        self._launch = launch
        self._config_of = config_of
        self._sandboxes = sandboxes
        self._domain_socket = domain_socket
        self._default = default
        self._hooks = hooks
        self._switch_user = switch_user
        self._cpus_are_bounded = cpus_are_bounded

    def warm_up(self) -> None:
        """Has the executors that are built in loaded, so that the first task does not wait for that."""
        try:
            self._containerizer.warm_up_programs()
        except OSError as error:
            logger.error("the process of built-in executors cannot be started: %s", error)

    async def launch(self, executor: Executor, environment: Mapping[str, str]) -> None:
        """Launches the container of an executor, for the tasks that it has.

        Raises MesocosmError, OSError or ExceptionGroup.
        """
        config = self._config(executor, environment)
        await asyncio.to_thread(_make_sandbox, executor, config)
        if config.type is ContainerType.DOCKER:
            config = await self._hooks.pre_launch_docker(executor.container_id, config, executor.info, _task(executor))
        result = await self._launch(executor.container_id, config)
        if result is LaunchResult.NOT_SUPPORTED:
            raise ContainerError("none of the containerizers of the agent makes such a container")

    async def status(self, container_id: ContainerID) -> ContainerStatus | None:
        """What a container is; None for one that does not run."""
        try:
            return await self._containerizer.status(container_id)
        except (MesocosmError, OSError) as error:
            logger.debug("there is no status of %s: %s", container_id, error)
            return None

    async def update(self, executor: Executor) -> None:
        """Gives the container what its executor and the tasks have. Raises OSError, ContainerError, ExceptionGroup."""
        resources = convert.resources(executor.resources())
        limits = convert.limits(self._limits(executor))
        volumes = convert.persistent_volumes(executor.resources())
        config = self._containerizer.config(executor.container_id)
        if config is None or config.command.program == DOCKER_EXECUTOR:
            return  # It has ended; or it has all that its one task has, from its beginning to its end.
        if set(config.persistent_volumes) != set(volumes):
            await self._containerizer.update_volumes(executor.container_id, volumes)
        if (config.resources, config.limits) != (resources, limits):
            await self._containerizer.update(executor.container_id, resources, limits)

    async def wait(self, container_id: ContainerID) -> Termination | str:
        """How a container ended, when it has; or why that is not known."""
        try:
            return await self._containerizer.wait(container_id)
        except UnknownContainerError:
            return "unknown container"
        except ContainerError as error:
            return str(error)

    async def destroy(self, container_id: ContainerID) -> None:
        """Ends a container."""
        try:
            await self._containerizer.destroy(container_id)
        except ContainerError as error:
            logger.error("%s", error)  # Who waits for its end is told, too.

    async def forget(self, container_id: ContainerID) -> None:
        """Keeps nothing of one that has ended."""
        try:
            await self._containerizer.remove(container_id)
        except UnknownContainerError:
            return
        except (ContainerError, OSError) as error:
            logger.error("what is on record of %s stays: %s", container_id, error)

    def is_executor(self, container_id: ContainerID) -> bool:
        """Whether a container, which may have ended, is that of an executor, and no standalone one."""
        config = self._config_of(container_id)
        directory = None if config is None else config.directory
        return container_id.parent is None and directory is not None and directory.is_relative_to(self._sandboxes)

    async def clear_away(self, known: Collection[ContainerID]) -> None:
        """Ends the containers of executors that are not `known`, and keeps nothing of those that have ended."""
        strangers = [
            container_id
            for container_id in await self._containerizer.containers() | self._containerizer.terminated()
            if container_id not in known and self.is_executor(container_id)
        ]
        for container_id in strangers:
            logger.info("%s is of an executor that is not on record, and ends", container_id)
            await self.destroy(container_id)
            await self.forget(container_id)

    def _limits(self, executor: Executor) -> Mapping[str, v1.Value.Scalar]:
        tasks = [task.message for task in executor.at(Stage.QUEUED, Stage.LAUNCHED)]
        return allocation.limits(executor.info.resources, tasks, cpus_are_bounded=self._cpus_are_bounded)

    def _config(self, executor: Executor, environment: Mapping[str, str]) -> ContainerConfig:
        """What is asked of the containerizer. Raises ContainerError."""
        info = executor.info
        launch = Call.LaunchContainer(
            container_id=v1.ContainerID(value=executor.container_id.value),
            command=_command(executor),
            container=info.container if info.HasField("container") else None,
            resources=executor.resources(),
            limits=self._limits(executor),
        )
        reason = validation.validate_command(launch.command)
        if reason is None and info.HasField("container"):
            reason = validation.validate_container(info.container)
        if reason is not None:
            raise ContainerError(reason)
        config = convert.container_config(launch, self._default, switch_user=self._switch_user)
        program = _program(executor, config)
        config = replace(
            config,
            command=replace(config.command, program=program),
            directory=executor.directory,
            user=executor.user,
        )
        if self._domain_socket is not None and (config.image is not None or config.docker is not None):
            socket = self._domain_socket.enclosed
            directory = Volume(str(socket.parent), str(socket.parent), VolumeMode.RO)
            if program != DOCKER_EXECUTOR:  # That is not in the container.
                config = replace(config, volumes=(*config.volumes, directory))
            environment = {**environment, "MESOS_DOMAIN_SOCKET": str(socket)}
        if config.type is ContainerType.DOCKER:
            role = allocation.role(executor.resources()) or ""
            config = replace(config, environment={**config.environment, "MESOS_ALLOCATION_ROLE": role})
        if program == DOCKER_EXECUTOR:  # It is root on the host, and nothing that a task says may tell it what to do.
            return _with_amounts_of_task(replace(config, program_environment=environment), executor)
        return replace(config, environment={**environment, **config.environment})


def _command(executor: Executor) -> v1.CommandInfo:
    """What the executor executes; for one that was made up, what its task does."""
    task = _task(executor)
    return executor.info.command if task is None else task.command


def _task(executor: Executor) -> v1.TaskInfo | None:
    """The task that an executor was made up for."""
    if not executor.generated:
        return None
    (task,) = executor.tasks.values()
    assert task.info is not None
    return task.info


def _with_amounts_of_task(config: ContainerConfig, executor: Executor) -> ContainerConfig:
    """For a container that its one task has for itself, as the executor is outside of it."""
    (task,) = executor.tasks.values()
    limits = allocation.limits((), [task.message], cpus_are_bounded=True)
    return replace(config, resources=convert.resources(task.message.resources), limits=convert.limits(limits))


def _program(executor: Executor, config: ContainerConfig) -> str | None:
    """What is built in for it, where its framework brings nothing."""
    if executor.generated:
        return DOCKER_EXECUTOR if config.type is ContainerType.DOCKER else COMMAND_EXECUTOR
    return DEFAULT_EXECUTOR if executor.is_default else None


def _make_sandbox(executor: Executor, config: ContainerConfig) -> None:
    """Makes the directory of a run, which stays whatever becomes of the launch. Raises OSError, ContainerError."""
    with open_sandbox(executor.container_id, executor.directory, find_credentials(config)):
        latest = executor.directory.with_name("latest")
        latest.unlink(missing_ok=True)
        latest.symlink_to(executor.directory.name)
