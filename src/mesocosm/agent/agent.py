"""The agent: the containers of one machine, as a service that outlives none of them.

It knows nothing of HTTP. What a client started goes on when the client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mesocosm.agent.authorization import Authorizer
from mesocosm.agent.boot import Boot
from mesocosm.agent.cgroups import OwnCgroups
from mesocosm.agent.domain_socket import DomainSocket
from mesocosm.agent.flags import AgentFlags, Loaded
from mesocosm.agent.flags.parsed import parsed
from mesocosm.agent.image_gc import ImageGcConfig, watch
from mesocosm.agent.outputs import Outputs
from mesocosm.agent.resources import make_disks, offered, offered_ports
from mesocosm.agent.sandboxes import Sandboxes
from mesocosm.agent.sessions import Sessions
from mesocosm.agent.tasks.containers import Containers
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.paths import Layout
from mesocosm.agent.tasks.tasks import Surroundings, Tasks
from mesocosm.agent.timer import Timer
from mesocosm.agent.tokens import ExecutorTokens
from mesocosm.api import v1
from mesocosm.api.json import from_json
from mesocosm.api.value_text import parse_attributes
from mesocosm.concurrency import Turns, Work, together
from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, Termination
from mesocosm.containerizer.base import DOCKER_PULLS, MESOS_PULLS, Containerizer, LaunchResult, Times
from mesocosm.containerizer.selection import create_containerizer
from mesocosm.dataclass import replace
from mesocosm.directories import DirectoryLock
from mesocosm.errors import MesocosmError, RecoveryError, leaves
from mesocosm.fetcher.fetcher import Fetcher
from mesocosm.flags import Flags
from mesocosm.hooks import Hooks
from mesocosm.launcher.info import Credentials
from mesocosm.loggers.base import ContainerLogger, LoggerSettings
from mesocosm.loggers.selection import DEFAULT, create_logger
from mesocosm.statistics import ResourceStatistics
from mesocosm.switchboard.switchboard import Switchboard
from mesocosm.users import resolve
from mesocosm.volume_gids import VolumeGids

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_LONGEST = 4096
"""Characters of a reason in the log, which may quote all that was sent."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a running container is and uses; None for what could not be told, as it was ending.

    `executor` is the one that it is of; `of_executor` also if it is nested in that.
    """

    container_id: ContainerID
    status: ContainerStatus | None
    statistics: ResourceStatistics | None
    executor: Executor | None = None
    of_executor: bool = False


class Agent:
    """The containers of the API, standalone and nested, from the start of the agent to its end."""

    def __init__(self, loaded: Loaded) -> None:
        flags = loaded.agent
        self.flags = flags
        self.texts = loaded.texts
        self.work_dir = loaded.containerizer.work_dir.absolute()
        self.started = time.time()
        self.recovered = False
        self.has_booted = False
        """Whether the machine was booted since the last agent, which is known when this one has recovered."""
        self.master_hostname: Callable[[], str | None] = lambda: None
        """Tells what the host of the master is called, if there is one."""
        self.authorizer = Authorizer(flags.acls)
        self.default_container = _default_container(flags)
        self.hooks = Hooks.load(flags.hooks)
        self.fetcher = Fetcher(flags.fetcher_cache_dir, flags.fetcher_cache_size, flags.fetcher_stall_timeout)
        self.logger = _logger(flags, loaded.containerizer.runtime_dir)
        own = _containerizer_flags(loaded, self.work_dir)
        self.switchboard = Switchboard()
        self.containerizer: Containerizer = create_containerizer(
            flags.containerizers, own, self._fetch, self.logger.prepare, self.switchboard
        )
        self.sessions = Sessions(self.switchboard, self.containerizer, self.launch)
        self.volume_gids = VolumeGids.create(own)
        self.sandboxes = Sandboxes(
            flags, self.containerizer, self.work_dir, loaded.containerizer.disk_watch_interval, self.authorizer
        )
        self.outputs = Outputs(self.containerizer, self.sandboxes.files)
        self.tokens = _tokens(flags)
        self.domain_socket = DomainSocket.create(flags, loaded.containerizer.runtime_dir)
        self.tasks = self._make_tasks(own)
        self.resources: tuple[v1.Resource, ...] = ()
        attributes = parsed("attributes", lambda: parse_attributes(self.flags.attributes or ""))
        self.attributes = self.hooks.attributes(attributes)
        self.launch_errors = 0
        self.launch_time = Timer()
        self.pull_times = {name: Timer() for name in (MESOS_PULLS, DOCKER_PULLS)}
        self.recovery_errors = 0
        self.recovery_time = math.nan
        self.image_gc = None if flags.image_gc_config is None else ImageGcConfig.parse(flags.image_gc_config)
        self._image_store = loaded.containerizer.docker_store_dir
        self._image_watch: asyncio.Task[None] | None = None
        self._cgroups = OwnCgroups(flags.agent_subsystems, own.cgroups_hierarchy, own.cgroups_root)
        self._lock = DirectoryLock(self.work_dir / "meta", "work_dir")
        self._work = Work()

    def _make_tasks(self, own: Flags) -> Tasks:
        containers = Containers(
            self.containerizer,
            self.launch_executor,
            self.config,
            self.work_dir / "slaves",
            self.domain_socket,
            self.default_container,
            self.hooks,
            switch_user=self.flags.switch_user,
            cpus_are_bounded=own.cgroups_enable_cfs,
        )
        tasks = Tasks(
            self.flags,
            Surroundings(
                Layout(self.work_dir),
                containers,
                self.sandboxes.files,
                self.sandboxes.gc,
                self.authorizer,
                self.hooks,
                lambda: self.containerizer.isolation,
                self.tokens,
                None if self.domain_socket is None else self.domain_socket.path,
            ),
        )
        self.sandboxes.tell(tasks.collected)
        return tasks

    # Beginning and end.

    async def start(self) -> None:
        """Takes the directories. Raises FlagError or OSError, and has taken nothing then."""
        self._lock.acquire()
        try:
            self.resources = parsed(
                "resources", lambda: offered(self.flags.resources, self.flags.default_role, self.work_dir)
            )
            self.resources = self.hooks.resources(self.resources)
            parsed("resources", lambda: make_disks(self.resources, self.work_dir))
            self.tasks.reservations.offer(self.resources)
            self._cgroups.enter()
            self.containerizer.start()
            self.containerizer.time_pulls(lambda name, seconds: self.pull_times[name].record(seconds))
        except BaseException:
            async with contextlib.AsyncExitStack() as held:
                held.callback(self._lock.release)
                held.callback(self._cgroups.leave)
                await self.containerizer.close()
            raise

    async def recover(self) -> None:
        """Takes up the containers that an earlier agent left, and what goes with them.

        Raises RecoveryError for a record that is damaged if the flag `strict` is set, and OSError.
        """
        began = time.monotonic()
        boot = Boot.find(self.work_dir / "meta")
        self.has_booted = boot.is_new
        if boot.is_new:
            logger.info("the machine was booted since the last agent: none of its containers runs")
        await self.fetcher.recover()
        try:
            # Records are not synced to the disk: a machine that crashed may have damaged them, and no container runs.
            await self.containerizer.recover(strict=self.flags.strict and not boot.is_new)
        except ExceptionGroup as errors:
            self._recovery_failed(errors)
        await self._end_sessions()
        running = await self.containerizer.containers()
        await self.logger.recover(running)
        terminated = self.containerizer.terminated()
        executors = {each for each in running | terminated if self.tasks.containers.is_executor(each)}
        for container_id in (running | terminated) - executors:
            if (config := self.config(container_id)) is not None:
                self.sandboxes.show(container_id, config.user)
        self.sandboxes.recover(terminated - executors, running)
        for container_id in running - executors:
            self._work.spawn(self.sandboxes.follow(container_id))
        if self.image_gc is not None and self.containerizer.provisioner is not None:
            self._image_watch = asyncio.create_task(watch(self.image_gc, self._image_store, self.prune_images))
        self.recovery_errors += await self.tasks.recover(strict=self.flags.strict and not boot.is_new)
        boot.record()
        if self.flags.recover == "reconnect":
            await self.tasks.await_executors()
        self.recovery_time = time.monotonic() - began
        self.recovered = True
        logger.info("recovered %d containers", len(running))

    async def _end_sessions(self) -> None:
        """Those of an earlier agent ended with its connections."""
        running = {
            container_id: self.containerizer.config(container_id)
            for container_id in await self.containerizer.containers()
        }
        sessions = [container_id for container_id, config in running.items() if config is not None and config.debug]
        try:
            await together(map(self.containerizer.destroy, sessions))
        except ExceptionGroup as errors:
            self._recovery_failed(errors)

    def _recovery_failed(self, errors: ExceptionGroup[Exception]) -> None:
        for error in leaves(errors):
            logger.error("recovery: %s", error)
            self.recovery_errors += 1

    async def destroy_all(self) -> None:
        """Ends every container, executors' first, which have some time for it. Raises ExceptionGroup."""
        await self.tasks.shut_down()
        top = [container_id for container_id in await self.containerizer.containers() if container_id.parent is None]
        await together(map(self.containerizer.destroy, top))

    async def close(self) -> None:
        """Lets go of everything, also where something fails; containers go on.

        Raises MesocosmError, OSError or ExceptionGroup.
        """
        self.recovered = False  # Who asks from now on is to ask again: of what goes on, this agent knows nothing more.
        async with contextlib.AsyncExitStack() as held:
            held.callback(self._lock.release)
            held.callback(self._cgroups.leave)
            held.push_async_callback(self.fetcher.close)
            held.push_async_callback(self.logger.close)
            held.callback(self.sandboxes.close)
            held.callback(self.outputs.close)
            held.push_async_callback(self._work.wait)
            held.push_async_callback(self.containerizer.close)
            held.push_async_callback(self.tasks.close)
            held.push_async_callback(self.sessions.close_all)
            if self._image_watch is not None:
                self._image_watch.cancel()
                await asyncio.wait([self._image_watch])

    # What can be done with a container.

    async def launch(self, container_id: ContainerID, config: ContainerConfig) -> LaunchResult:
        """Launches a container, and sees to its log and its sandbox. Raises MesocosmError, OSError, ExceptionGroup."""
        return await self._work.finish(self._launch(container_id, config))

    async def launch_executor(self, container_id: ContainerID, config: ContainerConfig) -> LaunchResult:
        """The same for the container of an executor, whose sandbox is seen to elsewhere."""
        return await self._work.finish(self._start(container_id, config))

    async def _launch(self, container_id: ContainerID, config: ContainerConfig) -> LaunchResult:
        if config.user is None and container_id.parent is not None:
            config = replace(config, user=await self._user_within(container_id.parent))
        result = await self._start(container_id, config)
        if result is LaunchResult.SUCCESS:
            self.sandboxes.show(container_id, config.user)
            self._work.spawn(self.sandboxes.follow(container_id))
        return result

    async def _start(self, container_id: ContainerID, config: ContainerConfig) -> LaunchResult:
        began = time.monotonic()
        try:
            if self.containerizer.knows(container_id):
                return LaunchResult.ALREADY_LAUNCHED
            config = await self.hooks.pre_launch(container_id, config)
            self.sandboxes.claim(container_id)
            result = await self.containerizer.launch(container_id, config)
        except Exception as error:
            self.launch_errors += 1
            reason = "; ".join(map(str, leaves(error)))[:_LONGEST]
            logger.warning("not launched: %s", reason, extra={"container": container_id})
            raise
        if result is LaunchResult.SUCCESS:
            self.launch_time.record(time.monotonic() - began)
            logger.info("launched", extra={"container": container_id})
        return result

    async def wait(self, container_id: ContainerID) -> Termination:
        """How the container ended, when it has. Raises ContainerError."""
        return await self.containerizer.wait(container_id)

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        """Sends a signal to the container's command; False if that has ended. Raises ContainerError, OSError."""
        return await self._work.finish(self.containerizer.kill(container_id, number))

    async def remove(self, container_id: ContainerID) -> None:
        """Forgets a container that has ended, with its sandbox. Raises ContainerError, OSError."""
        await self._work.finish(self.sandboxes.remove(container_id))

    async def prune_images(self, excluded: Collection[str] = ()) -> None:
        """Removes the images that no container uses, but those `excluded`, here or by the flag.

        Raises MesocosmError, OSError.
        """
        kept = [*excluded, *(() if self.image_gc is None else self.image_gc.excluded)]
        if (pruned := await self.containerizer.prune_images(kept)) is not None:
            logger.info("removed %d images, %d layers, %d bytes", len(pruned.images), pruned.layers, pruned.size)

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        """What was asked of a container, also if it has ended."""
        try:
            return self.containerizer.recorded(container_id)
        except RecoveryError as error:
            logger.error("recovery: %s", error)
            return None

    def times(self, container_id: ContainerID) -> Times:
        """When the container was launched and when it ended. Raises OSError."""
        return self.containerizer.times(container_id)

    def user_of(self, container_id: ContainerID) -> str | None:
        """As whom the command of a container runs, or that of a top-level one ran, if that was said.

        None also for an unknown one.
        """
        config = self.containerizer.config(container_id)
        return self.sandboxes.user_of(container_id) if config is None else config.user

    async def _user_within(self, parent: ContainerID) -> str | None:
        """As whom a container nested in `parent` runs that does not say it. Raises ContainerError.

        By numbers where the parent has a root file system of its own: others need not know its names.
        """
        config = self.containerizer.config(parent)
        if config is None or config.user is None or not config.root_layers:
            return self.user_of(parent)
        found = await asyncio.to_thread(resolve, config.user, config.root_layers)
        return f"{found.uid}:{found.gid}"

    async def observe(
        self, *, nested: bool = True, standalone: bool = True, described: bool = True, measured: bool = True
    ) -> list[Observed]:
        """The running containers, in the order of their names: executors', others if `standalone` or `nested`.

        What they are and what they use takes a moment for each, and is told if they are to be `described`, `measured`.
        """
        executors = self.tasks.frameworks.by_container()
        chosen = [
            container_id
            for container_id in await self.containerizer.containers()
            if (nested if container_id.parent is not None else standalone or container_id in executors)
        ]
        turns, found = Turns(), []
        for container_id in sorted(chosen, key=str):
            await turns.pause()
            status, usage = None, None
            with contextlib.suppress(MesocosmError, OSError):  # It has just ended, or is not running yet.
                status = await self.containerizer.status(container_id) if described else None
                usage = await self.containerizer.usage(container_id) if measured else None
            executor, of_executor = executors.get(container_id), container_id.root in executors
            found.append(Observed(container_id, status, usage, executor, of_executor))
        return found

    async def containers_with_rootfs(self) -> int:
        """How many running containers do not see the root file system of the host."""
        configs = map(self.containerizer.config, await self.containerizer.containers())
        return sum(config is not None and config.rootfs is not None for config in configs)

    async def _fetch(
        self, container_id: ContainerID, config: ContainerConfig, owner: Credentials | None, log: int
    ) -> None:
        """What a command needs, and what hooks make of it."""
        assert config.directory is not None
        if config.command.uris:
            await self.fetcher.fetch(container_id, config.command.uris, config.directory, owner, log)
        await self.hooks.post_fetch(container_id, config.directory)


def _default_container(flags: AgentFlags) -> v1.ContainerInfo | None:
    """What a container is that says nothing of it. Raises FlagError."""
    if flags.default_container_info is None:
        return None
    return parsed("default_container_info", lambda: from_json(flags.default_container_info, v1.ContainerInfo))


def _tokens(flags: AgentFlags) -> ExecutorTokens | None:
    """By which executors prove who they are, if not to this agent then to a later one. Raises FlagError."""
    if flags.jwt_secret_key is None:
        return None
    return ExecutorTokens.load(flags.jwt_secret_key)


def _containerizer_flags(loaded: Loaded, work_dir: Path) -> Flags:
    """With the ports that the agent offers as those that `network/ports` looks at, if that is asked for."""
    flags = replace(loaded.containerizer, work_dir=work_dir)
    if not flags.check_agent_port_range_only or flags.container_ports_isolated_range is not None:
        return flags
    with contextlib.suppress(ValueError):  # Of which `start` tells.
        ports = offered_ports(loaded.agent.resources, loaded.agent.default_role)
        return replace(flags, check_agent_port_range_only=False, container_ports_isolated_range=ports)
    return flags


def _logger(flags: AgentFlags, runtime_dir: Path) -> ContainerLogger:
    name = flags.container_logger or DEFAULT
    names = ("max_stdout_size", "max_stderr_size", "stdout_count", "stderr_count")
    parameters = {key: str(getattr(flags, f"logrotate_{key}")) for key in names} if name == "logrotate" else {}
    return create_logger(name, LoggerSettings(runtime_dir, parameters))
