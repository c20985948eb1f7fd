"""The Mesos containerizer: containers out of isolators and a launcher, one task for the life of each."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mesocosm.concurrency import together
from mesocosm.container import (
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    PersistentVolume,
    Resources,
    Termination,
)
from mesocosm.containerizer.base import MESOS_PULLS, ContainerIO, Fetch, LaunchResult, Log, Times
from mesocosm.containerizer.checkpoint import Checkpoints, boot_id
from mesocosm.containerizer.ended import EndedContainers
from mesocosm.containerizer.isolation import Isolation
from mesocosm.containerizer.launching import Launching
from mesocosm.containerizer.lifecycle import Container, State
from mesocosm.containerizer.lives import Lives
from mesocosm.containerizer.needs import check_image_providers
from mesocosm.containerizer.steps import Steps
from mesocosm.containerizer.supervision import Supervision
from mesocosm.dataclass import replace
from mesocosm.directories import DirectoryLock
from mesocosm.errors import ContainerError, UnknownContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.launcher.base import Launcher
from mesocosm.launcher.client import LauncherProcess
from mesocosm.launcher.messages import STOP_COMMAND
from mesocosm.launcher.selection import create_launcher
from mesocosm.statistics import ResourceStatistics

if TYPE_CHECKING:
    from mesocosm.images.provisioner import Provisioner
    from mesocosm.images.store import Pruned
    from mesocosm.switchboard.switchboard import Switchboard


class MesosContainerizer:
    """Launches containers out of the isolators of `--isolation`.

    As a context manager it destroys its containers at the end. `start` and `close` instead leave those that run, for
    the next containerizer with the same directories to `recover`; so does a kill. One instance at a time may use a
    runtime directory.
    """

    def __init__(
        self,
        flags: Flags,
        *,
        sole: ContainerConfig | None = None,
        janitor: Sequence[str] | None = None,
        final_usage: bool = False,
        fetch: Fetch | None = None,
        log: Log | None = None,
        switchboard: Switchboard | None = None,
        steps: Steps | None = None,
    ) -> None:
        """With `sole`, nothing but that can be launched, and isolators with nothing to do for it are left out.

        `janitor` is a command line to execute should this process end without `close`.

        With `final_usage` each termination tells what the container used, which takes a moment to read. `fetch` is
        called before a command starts; without it, none can have URIs. `log` says where output goes if the caller of
        `launch` does not, and `switchboard` holds the terminals then, which are for `attach` otherwise. With `steps`,
        the containers are of another kind.
        """
        self._flags = flags
        self._steps = steps or Steps()
        self._sole = sole
        self._fetch = fetch
        self._log = log
        self._switchboard = switchboard
        self._process = LauncherProcess(janitor, spares=sole is None)
        self._checkpoints = Checkpoints(flags.runtime_dir)
        self._lock = DirectoryLock(flags.runtime_dir)
        self._boot_id = boot_id()
        self._used = False  # Whether anything was launched or recovered.
        self._closing = False
        self._isolation = Isolation()
        if switchboard is not None:
            self._isolation.add(switchboard)
            switchboard.use(self._process, self._checkpoints)
        self._provisioner: Provisioner | None = None
        self._chosen: Launcher | None = None
        self._ended = EndedContainers(self._checkpoints)
        self._lives = Lives(
            self._steps,
            self._process,
            Supervision(self._isolation, self._checkpoints),
            self._ended,
            flags.work_dir,
            final_usage=final_usage,
        )

    @property
    def destroy_errors(self) -> int:
        """How often a container could not be taken apart."""
        return self._lives.destroy_errors

    @property
    def isolation(self) -> list[str]:
        """The names of the isolators, in the order they work in."""
        return self._isolation.names

    @property
    def provisioner(self) -> Provisioner | None:
        """What makes root file systems of images, where containers may have any."""
        return self._provisioner

    # Beginning and end.

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await together(self.destroy(each) for each in await self.containers() if each.parent is None)
        finally:
            await self.close()

    def warm_up(self) -> None:
        """Starts the launcher process, which then gets ready while the caller does something else. Raises OSError."""
        self._process.start()

    def warm_up_programs(self) -> None:
        """Starts the launcher process of built-in programs, so that the first container of one does not wait for it.

        Raises OSError.
        """
        self._process.start_programs()

    def forget_launcher(self) -> None:
        """In a fork's child, lets go of the launcher process, which is its parent's."""
        self._process.forget()

    def start(self) -> None:
        """Makes ready for launches. Raises FlagError or OSError, and has taken nothing then."""
        launcher = create_launcher(self._flags, self._process)
        named = self._steps.select(self._flags, launcher.name, self._sole)
        self._lock.acquire()
        try:
            self._provisioner = _provisioner(self._flags, [each.name for each in named])
            self._steps.lay_out()
            launcher.start()
        except BaseException:
            self._lock.release()
            raise
        self._isolation.named = named
        self._lives.launching = self._launching(launcher)
        self._chosen, self._used, self._closing = launcher, False, False

    def _launching(self, launcher: Launcher) -> Launching:
        return Launching(
            flags=self._flags,
            boot_id=self._boot_id,
            checkpoints=self._checkpoints,
            isolation=self._isolation,
            launcher=launcher,
            provisioner=self._provisioner,
            fetch=self._fetch,
            log=self._log,
            switchboard=self._switchboard,
            describe=self._steps.describe,
        )

    def time_pulls(self, record: Callable[[str, float], None]) -> None:
        """Has `record` called for each image that was pulled, with how Mesos calls that, and the seconds it took."""
        if self._provisioner is not None:
            self._provisioner.time_pulls(partial(record, MESOS_PULLS))

    async def close(self) -> None:
        """Lets go of everything, also where something fails. Containers whose commands run, or may, go on.

        Any other whose launch is not complete leaves nothing. Raises OSError or ExceptionGroup.
        """
        self._closing = True
        async with contextlib.AsyncExitStack() as held:
            held.callback(self._lock.release)
            held.push_async_callback(self._close_launcher)
            if self._provisioner is not None:
                held.push_async_callback(self._provisioner.close)
            held.push_async_callback(self._isolation.close)
            held.callback(self._ended.close)
            held.push_async_callback(self._lives.abandon)
            await self._lives.destroy_incomplete()

    async def _close_launcher(self) -> None:
        chosen, self._chosen = self._chosen, None
        try:
            if chosen is not None:
                await chosen.close()
        finally:
            await self._process.close()  # Also one that was only warmed up.

    async def recover(self, known: Collection[ContainerID] | None = None, *, strict: bool = True) -> None:
        """Takes up the containers of an earlier containerizer; destroys those that are not `known` (None: all are).

        Raises ContainerError if it is not the first call or comes after a launch, and RecoveryError for state on disk
        that is damaged or of a newer version; nothing is changed then. If not `strict`, such a container is destroyed,
        and its state set aside. Raises ExceptionGroup for what could not be destroyed, when all others are recovered.
        """
        if self._used:
            raise ContainerError(
                "this containerizer has launched or recovered containers already",
                "call recover() once, before any launch",
            )
        self._used = True
        from mesocosm.containerizer.recovery import find_containers

        try:
            found = await find_containers(self._checkpoints, self._launcher, self._boot_id, known, strict=strict)
        except BaseException:
            self._used = False
            raise
        try:
            await self._lives.take_up(found)
        finally:
            if self._provisioner is not None:
                await self._provisioner.recover(await self.containers())

    # What can be done with a container.

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        """Makes a container and starts its command; returns when that runs.

        Raises CommandError for a command that cannot be executed, and ContainerError, OSError or ExceptionGroup for
        anything else that failed; there is no such container then.
        """
        if config.type is not self._steps.kind:
            return LaunchResult.NOT_SUPPORTED
        await self._lives.told(container_id.parent)
        if self.knows(container_id):
            return LaunchResult.ALREADY_LAUNCHED
        if self._sole not in (None, config):
            raise ContainerError(f"{container_id} is not the container that this containerizer is for")
        self._launcher.start()
        if self._closing:
            raise ContainerError(f"{container_id} is not launched, as its containerizer is being closed")
        container = Container.create(container_id, self._completed(container_id, config))
        self._lives.check_parent(container)
        self._check(container_id, config)
        self._used = True
        self._lives.add(container)
        self._lives.begin(container, io)
        try:
            await asyncio.shield(container.started)
        except asyncio.CancelledError:
            await self.destroy(container_id)
            raise
        return LaunchResult.SUCCESS

    async def attach(self, container_id: ContainerID) -> int:
        """The master of the container's terminal, which then is the caller's to close. Raises ContainerError.

        Also of one that has ended before its launcher could attach: what it wrote is still to be read.
        """
        container = self._lives.get(container_id)
        if container is None and container_id not in self._ended:
            raise UnknownContainerError(f"there is no container {container_id}")
        if self._switchboard is not None and (kept := await self._switchboard.attach(container_id)) is not None:
            return kept
        terminal = self._ended.take_terminal(container_id)
        if terminal is None and container is not None and container.channel is not None:
            terminal = container.channel.take_terminal()
        if terminal is None:
            raise ContainerError(f"{container_id} has no terminal to attach to")
        return terminal

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes what a running container may use. Raises ContainerError or OSError."""
        container = await self._lives.await_running(container_id)
        await self._isolation.update(container_id, resources, limits)
        self._lives.change(container, replace(container.config, resources=resources, limits=limits))

    async def update_volumes(self, container_id: ContainerID, volumes: tuple[PersistentVolume, ...]) -> None:
        """Changes which persistent volumes a running container has. Raises ContainerError or OSError."""
        container = await self._lives.await_running(container_id)
        if container.init is None or set(volumes) == set(container.config.persistent_volumes):
            return
        config = replace(container.config, persistent_volumes=volumes)
        await self._isolation.update_volumes(container_id, config, container.init.descriptor)
        self._lives.change(container, replace(container.config, persistent_volumes=volumes))

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What a running container uses. Raises ContainerError or OSError."""
        self._lives.released(container_id)
        return await self._isolation.usage(container_id)

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What a running container is. Raises ContainerError or OSError."""
        container = self._lives.released(container_id)
        known = ContainerStatus(container_id, None if container.init is None else container.init.pid)
        return await self._isolation.status(container_id, known)

    async def wait(self, container_id: ContainerID) -> Termination:
        """How the container ended, when it has and everything it held is given back. Raises ContainerError."""
        if (container := self._lives.get(container_id)) is not None:
            return await asyncio.shield(container.ended)
        if (termination := self._ended.termination(container_id)) is not None:
            return termination
        raise UnknownContainerError(f"there is no container {container_id}")

    async def destroy(self, container_id: ContainerID) -> Termination | None:
        """Ends a container in any state, nested ones first; None for one that is not known.

        Raises ContainerError if something of it could not be given back; it can be called again then.
        """
        return await self._lives.destroy(container_id)

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        """Sends a signal to the container's command; False if that has ended. Raises ContainerError or OSError."""
        container = await self._lives.await_running(container_id)
        if container.init is None:
            return False
        return container.init.send_signal(STOP_COMMAND if number == signal.SIGSTOP else number)

    async def containers(self) -> set[ContainerID]:
        """The containers that have not ended."""
        return {container.container_id for container in self._lives}

    def terminated(self) -> set[ContainerID]:
        """Those that have, and were not removed."""
        return set(self._ended)

    def knows(self, container_id: ContainerID) -> bool:
        """Whether it is one of either."""
        return container_id in self._lives or container_id in self._ended

    def pending(self) -> dict[ContainerID, str]:
        """Those that are on their way to run, or to end, and where they are on it."""
        return {
            container.container_id: container.state.value
            for container in self._lives
            if container.state is not State.RUNNING
        }

    def gauges(self) -> dict[str, Callable[[], float]]:
        """Numbers that isolators have for metrics, by their names."""
        return {name: value for isolator in self._isolation for name, value in isolator.gauges().items()}

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        """What was asked of a container; None for one that is not known, or has ended."""
        container = self._lives.get(container_id)
        return None if container is None else container.config

    def recorded(self, container_id: ContainerID) -> ContainerConfig | None:
        """The same, also of one that has ended and was not removed. Raises RecoveryError for a damaged record."""
        return self.config(container_id) or self._checkpoints.config(container_id)

    def times(self, container_id: ContainerID) -> Times:
        """When a container was launched and when it ended, as far as that is on record. Raises OSError."""
        return self._checkpoints.times(container_id)

    def sandbox(self, container_id: ContainerID) -> Path:
        """The sandbox of a container that asked for no other; that of a nested one is in its parent's."""
        return self._lives.sandbox(container_id)

    async def remove(self, container_id: ContainerID) -> None:
        """Forgets a container that has ended, those nested in it, and the sandboxes. Raises ContainerError, OSError."""
        if container_id in self._lives:
            raise ContainerError(f"{container_id} has not ended", "destroy it first")
        await self._ended.remove(container_id, self.sandbox(container_id))

    async def prune_images(self, excluded: Collection[str] = ()) -> Pruned | None:
        """Removes the images that no container uses, but those `excluded`; None where there are none at all.

        Raises ContainerError and OSError.
        """
        return None if self._provisioner is None else await self._provisioner.prune(excluded)

    # Small things.

    @property
    def _launcher(self) -> Launcher:
        if self._chosen is None:
            raise ContainerError("the containerizer is not started", "use `async with`, or call start()")
        return self._chosen

    def _completed(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """`config` with a sandbox, and absolute paths: the launcher has another working directory."""
        directory = config.directory or self.sandbox(container_id)
        rootfs = None if config.rootfs is None else config.rootfs.absolute()
        return replace(config, directory=directory.absolute(), rootfs=rootfs)

    def _check(self, container_id: ContainerID, config: ContainerConfig) -> None:
        """Raises ContainerError for what is asked for and not to be had here."""
        self._steps.check(container_id, config, self.isolation)
        if config.images and self._provisioner is None:
            raise ContainerError(
                f"{container_id} asks for the image {config.images[0].reference}, and there are none here",
                "start with --image_providers=docker",
            )
        if config.command.uris and self._fetch is None:
            raise UnsupportedError(f"{container_id}: this containerizer fetches no URIs", "run it in an agent")


def _provisioner(flags: Flags, isolation: Collection[str]) -> Provisioner | None:
    """What makes root file systems of images, if there may be any. Raises FlagError, OSError."""
    check_image_providers(flags.image_providers, isolation)
    if not flags.image_providers:
        return None
    from mesocosm.images import provisioner  # Much to load for who has no images.

    return provisioner.Provisioner.create(flags)
