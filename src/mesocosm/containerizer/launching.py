"""The launch of a container, from its images and its sandbox to the command that runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.containerizer.base import ContainerIO, Fetch, Log, Starting
from mesocosm.containerizer.checkpoint import Checkpoints, Launched
from mesocosm.containerizer.command import find_credentials
from mesocosm.containerizer.isolation import Isolation
from mesocosm.containerizer.lifecycle import Container, State
from mesocosm.containerizer.sandbox import Sandbox, open_sandbox
from mesocosm.dataclass import dataclass, replace
from mesocosm.flags import Flags
from mesocosm.launcher.base import Child, Launcher
from mesocosm.launcher.failure import error_of
from mesocosm.launcher.info import Credentials, LaunchInfo
from mesocosm.launcher.merging import merge
from mesocosm.launcher.messages import Kind

if TYPE_CHECKING:
    from mesocosm.images.provisioner import Provisioner
    from mesocosm.switchboard.switchboard import Switchboard

Describe = Callable[[ContainerConfig, Credentials | None, Flags], LaunchInfo]
"""The part of a launch that is no isolator's."""
Streams = tuple[int, int, int]
"""Descriptors for 0, 1 and 2."""


@dataclass(frozen=True, slots=True)
class Launching:
    """What launches have in common. Without `fetch`, no command can have URIs; without `log`, output goes to files.

    Without `switchboard` a terminal is for who attaches to it.
    """

    flags: Flags
    boot_id: str
    checkpoints: Checkpoints
    isolation: Isolation
    launcher: Launcher
    provisioner: Provisioner | None
    fetch: Fetch | None
    log: Log | None
    switchboard: Switchboard | None
    describe: Describe

    async def start(self, container: Container, parent: Container | None, io: ContainerIO | None) -> None:
        """PROVISIONING to RUNNING. What a later process needs to know is on disk before it is done.

        Raises MesocosmError or OSError.
        """
        container_id = container.container_id
        config = container.config = await self._complete(container_id, container.config)
        credentials = await _find_credentials(config)
        assert config.directory is not None
        self.checkpoints.create(container_id, config)
        with open_sandbox(container_id, config.directory, credentials) as sandbox:
            container.made_sandbox = sandbox.made

            container.enter(State.PREPARING)
            parts = await self.isolation.prepare(container_id, config)
            info = merge([self._describe(container, parent, credentials), *parts])

            container.enter(State.ISOLATING)
            async with (
                self._output(container, io) as output,
                self._forked(container, parent, info, sandbox, output) as (child, launched, streams),
            ):
                await self.isolation.isolate(container_id, config, child.init.pid)
                if info.tty is not None:
                    await _receive_terminal(container_id, child)
                container.enter(State.FETCHING)
                if self.fetch is not None:
                    await self.fetch(container_id, config, sandbox.owner, streams[2])
                await self._release(container, child, launched, streams, None if io else self.switchboard)
        container.watches = self.isolation.watch(container_id)  # There is nothing else to do until the command runs.
        report = await child.channel.report()
        if report is None or report.kind is not Kind.RUNNING:
            raise error_of(container_id, report)
        container.enter(State.RUNNING)

    async def _complete(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """What was asked for, with its images on disk, and what those and the isolators say where it says nothing."""
        if config.images:
            assert self.provisioner is not None
            config = await self.provisioner.provision(container_id, config)
        return await self.isolation.complete(container_id, config.without_secrets())

    @contextlib.asynccontextmanager
    async def _output(self, container: Container, io: ContainerIO | None) -> AsyncIterator[ContainerIO]:
        """What the caller has given for the command's streams, or else the logger."""
        config = container.config
        if io is not None or self.log is None or (config.tty_info is not None and self.switchboard is None):
            yield io or ContainerIO()
            return
        assert config.directory is not None
        given = await self.log(container.container_id, config, config.directory)
        try:
            yield given
        finally:
            given.close()

    @contextlib.asynccontextmanager
    async def _forked(
        self,
        container: Container,
        parent: Container | None,
        info: LaunchInfo,
        sandbox: Sandbox,
        io: ContainerIO,
    ) -> AsyncIterator[tuple[Child, Launched, Streams]]:
        """The init, which the container has then, and the streams of the command, which are opened meanwhile."""
        forking = asyncio.ensure_future(self._fork(container, parent, info))
        with contextlib.ExitStack() as opened:
            try:
                await asyncio.sleep(0)  # The launcher is asked.
                streams = opened.enter_context(sandbox.streams(io))
            finally:
                child, launched = await forking
            yield child, launched, streams

    async def _fork(self, container: Container, parent: Container | None, info: LaunchInfo) -> tuple[Child, Launched]:
        container_id = container.container_id
        status_file = self.checkpoints.status_file(container_id)
        child = await self.launcher.fork(container_id, info, None if parent is None else parent.init, status_file)
        return child, container.adopt(child, info, self.boot_id, records_status=self.launcher.records_status)

    async def _release(
        self,
        container: Container,
        child: Child,
        launched: Launched,
        streams: Streams,
        switchboard: Switchboard | None,
    ) -> None:
        """Lets the init go on, when the record of it is on disk."""
        container_id = container.container_id
        async with _connected(container, child, streams, switchboard) as given:
            self.checkpoints.write_launched(container_id, launched)
            joins = [*child.joins, *self.isolation.joins(container_id)]
            child.channel.release(given, joins, recoverable=not launched.records_status)
            container.released = True

    def _describe(self, container: Container, parent: Container | None, credentials: Credentials | None) -> LaunchInfo:
        """The command's part; that of a debug container is in the environment and the directory of its parent."""
        info = self.describe(container.config, credentials, self.flags)
        if parent is None or not container.config.debug:
            return info
        assert parent.launched is not None
        own = container.config.environment
        return replace(
            info,
            environment={**info.environment, **parent.launched.environment, **own},
            secret_environment={name: value for name, value in parent.secret_environment.items() if name not in own},
            working_directory=container.config.working_directory or parent.launched.working_directory,
        )


async def _receive_terminal(container_id: ContainerID, child: Child) -> None:
    """Waits until the init has made the terminal of the container. Raises MesocosmError or OSError."""
    report = await child.channel.report()
    if report is None or report.kind is not Kind.TERMINAL:
        raise error_of(container_id, report)


@contextlib.asynccontextmanager
async def _connected(
    container: Container, child: Child, streams: Streams, switchboard: Switchboard | None
) -> AsyncIterator[Streams]:
    """The streams of the command: `streams`, or what the switchboard holds the other ends of."""
    if switchboard is None:
        yield streams
        return
    stdin, stdout, stderr = streams
    terminal = child.channel.take_terminal()
    starting = Starting(container.container_id, container.config, child.init, terminal, stdout, stderr)
    given = await switchboard.connect(starting)
    try:
        yield (
            stdin if given.stdin is None else given.stdin,
            stdout if given.stdout is None else given.stdout,
            stderr if given.stderr is None else given.stderr,
        )
    finally:
        given.close()


async def _find_credentials(config: ContainerConfig) -> Credentials | None:
    # A look-up of a name may ask the network.
    if config.user is None:
        return find_credentials(config)
    return await asyncio.to_thread(find_credentials, config)
