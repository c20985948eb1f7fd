"""What Docker makes for containers, which their containerizer sees as an isolator: prepared, measured, cleaned up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mesocosm.concurrency import Work
from mesocosm.container import (
    CommandInfo,
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    Resources,
    Volume,
    VolumeMode,
)
from mesocosm.dataclass import dataclass, replace
from mesocosm.docker.cgroups import ContainerCgroups
from mesocosm.docker.client import Docker, can_be_hidden
from mesocosm.docker.info import DockerInfo
from mesocosm.docker.options import DefaultDns, container_name, run
from mesocosm.docker.orders import Orders
from mesocosm.docker.values import Container, DockerError, HangingError, NameTakenError, NoSuchContainerError
from mesocosm.errors import ContainerError
from mesocosm.flags import DEFAULT_PATH, Flags
from mesocosm.isolators.base import NO_STATISTICS, NO_STATUS, ContainerState, Isolator
from mesocosm.isolators.filesystem.base import PersistentVolumes
from mesocosm.launcher.base import InitProcess, started_at
from mesocosm.launcher.info import Command, Credentials, LaunchInfo
from mesocosm.networks import IPAddress, NetworkInfo
from mesocosm.secret_resolver import create_resolver, resolve
from mesocosm.statistics import ResourceStatistics

logger = logging.getLogger(__name__)

_OWN = Credentials(0, 0) if os.geteuid() == 0 else None
"""Whose a process on the host is: this one's, also where the container is somebody else's."""
_EXECUTOR_SUFFIX = ".executor"
"""Of the name of a container that an executor is in which makes another one for its task."""
LABEL = "mesocosm"
"""Of all containers of an agent, whose runtime directory is its value."""
_GLANCE = 2.0
"""Seconds that who asks what a container is and uses waits for Docker."""
_EXECUTOR = ("-m", "mesocosm.executors")


@dataclass(slots=True)
class Made:
    """What is known of one container: the `orders` to make it, and its process once that was seen.

    `asked` if Docker may have made it. `killed` if Docker was asked to stop it and did not answer.
    """

    name: str
    by_executor: bool = False
    orders: Orders | None = None
    asked: bool = False
    found: Container | None = None
    started: int | None = None
    cgroups: ContainerCgroups | None = None
    killed: bool = False
    looking: asyncio.Future[Container | None] | None = None
    """What asks Docker where it is, for who waits until `patience` is over, and no longer."""
    patience: float = 0.0

    def see(self, found: Container) -> None:
        """Takes note of what Docker says."""
        if found.pid is not None and (self.found is None or self.found.pid != found.pid):
            self.started = started_at(found.pid)
        self.found = found

    def looked(self, looking: asyncio.Future[Container | None]) -> None:
        """Docker has answered, or not."""
        self.looking = None
        if not looking.cancelled() and (error := looking.exception()) is not None:
            logger.warning("%s: %s", self.name, error)

    @property
    def names(self) -> Sequence[str]:
        """All that Docker may have for it."""
        task = self.name.removesuffix(_EXECUTOR_SUFFIX)
        return (self.name,) if task == self.name else (self.name, task)


class DockerIsolator(Isolator):
    """Has Docker make a container for each, or the executor of a task, which then is the process that is launched.

    Of other containers that process is a client of Docker, which shows their output and ends with them.
    """

    def __init__(self, flags: Flags, docker: Docker) -> None:
        """Raises FlagError."""
        self._flags = flags
        self._docker = docker
        self._resolver = create_resolver(flags.secret_resolver)
        self._dns = DefaultDns.parse(flags.default_container_dns)
        self._volumes = PersistentVolumes(flags)
        self._made: dict[ContainerID, Made] = {}
        self._removals = Work()
        self.attached: set[ContainerID] = set()
        """Containers that run already, and are only to get another client."""

    # Before and at the launch.

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Knows the names of all."""
        self._volumes.recover(containers)
        for state in containers:
            self._made[state.container_id] = replace(self._named(state.container_id, state.config), asked=True)
        for container_id in orphans:
            self._made[container_id] = Made(f"{container_name(container_id.value)}{_EXECUTOR_SUFFIX}", asked=True)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The process of the container on the host. What Docker would be asked is made up, and refused, here."""
        made = self._made[container_id] = self._named(container_id, config)
        secrets = [
            (name, await resolve(self._resolver, container_id, f"the variable {name!r}", secret))
            for name, secret in config.secret_environment.items()
        ]
        for volume in config.persistent_volumes:
            await asyncio.to_thread(self._volumes.make, container_id, volume, config)
        hidden = {name: _hidden(name, os.fsdecode(value)) for name, value in secrets}
        own = {**config.environment, **hidden}
        orders = self._orders(container_name(container_id.value), replace(config, environment=own))
        if made.by_executor:
            return self._executor(config, orders)
        made.orders = orders if config.command.program is None else self._executor_orders(made.name, config, orders)
        made.asked = container_id in self.attached
        client = self._docker.attach_command if container_id in self.attached else self._docker.start_command
        argv = tuple(client(made.name))
        variables = {"PATH": os.environ.get("PATH", DEFAULT_PATH), "HOME": os.environ.get("HOME", "/")}
        return LaunchInfo(
            environment=variables, credentials=_OWN, command=Command(argv[0], argv), working_directory="/"
        )

    async def make(self, container_id: ContainerID) -> None:
        """Has Docker make the container, unless its executor does. Raises DockerError."""
        made = self._made[container_id]
        made.asked = True
        if made.orders is None:
            return
        try:
            await self._create(made.name, made.orders)
        except DockerError as error:
            made.asked = isinstance(error, HangingError)
            raise

    async def _create(self, name: str, orders: Orders) -> None:
        try:
            await self._docker.create(orders.arguments, orders.variables)
        except NameTakenError:
            if not await self._was_removed(name):
                raise
            await self._docker.create(orders.arguments, orders.variables)

    async def _was_removed(self, name: str) -> bool:
        """Whether the name is free: it was of an own container of the same id, which waited for its removal."""
        with contextlib.suppress(NoSuchContainerError):
            found = await self._docker.inspect(name)
            if found.running or not self.is_own(found):
                return False
            await self._docker.remove(found.id)
        return True

    def is_own(self, found: Container) -> bool:
        """Whether an agent with these directories has made it: others may ask the same Docker, and people, too."""
        return found.labels.get(LABEL) == str(self._flags.runtime_dir)

    def _named(self, container_id: ContainerID, config: ContainerConfig) -> Made:
        name = container_name(container_id.value)
        is_executor, image = config.command.program is not None, self._flags.docker_mesos_image
        suffix = _EXECUTOR_SUFFIX if is_executor and image is not None else ""
        return Made(f"{name}{suffix}", is_executor and image is None)

    def _orders(self, name: str, config: ContainerConfig) -> Orders:
        asked = run(name, config, self._flags, self._dns, {LABEL: str(self._flags.runtime_dir)})
        docker, stop_timeout = self._docker, self._flags.docker_stop_timeout
        return Orders(docker.program, docker.socket, name, asked.arguments, asked.variables, stop_timeout)

    def _executor(self, config: ContainerConfig, orders: Orders) -> LaunchInfo:
        """The executor as a process of the host's. Its orders have secrets, and are on no disk."""
        return LaunchInfo(
            environment={"PATH": DEFAULT_PATH, "MESOS_SANDBOX": str(config.directory), **config.program_environment},
            secret_environment=orders.environment(),
            credentials=_OWN,
            command=Command("", (), config.command.program),
            working_directory=str(config.directory),
        )

    def _executor_orders(self, name: str, config: ContainerConfig, orders: Orders) -> Orders:
        """The executor in a container of `--docker_mesos_image`: it outlives the one that the agent is in.

        It asks the same daemon, sees the sandbox where the host has it, and the processes of the task's container.
        """
        image, sandbox = self._flags.docker_mesos_image, str(config.directory)
        assert image is not None
        assert config.command.program is not None
        around = ContainerConfig(
            CommandInfo(_EXECUTOR[0], (*_EXECUTOR[1:], config.command.program), shell=False),
            directory=config.directory,
            environment={
                **config.program_environment,
                **{name: _hidden(name, value) for name, value in orders.environment().items()},
            },
            volumes=(
                Volume(self._docker.socket, self._docker.socket, VolumeMode.RO),
                Volume(sandbox, sandbox),
                *_agent_socket(config.program_environment),
            ),
            docker=DockerInfo(
                image,
                parameters=(
                    ("entrypoint", "python3"),
                    ("pid", "host"),
                    ("cap-add", "SYS_ADMIN"),
                    ("cap-add", "SYS_PTRACE"),
                ),
            ),
        )
        return self._orders(name, around)

    # While it runs.

    async def look(self, container_id: ContainerID) -> Container | None:
        """The container, as Docker describes it now; None if there is none yet. Raises DockerError."""
        made = self._made[container_id]
        try:
            found = await self._docker.inspect(made.name)
        except NoSuchContainerError:
            return None
        made.see(found)
        return found

    def see(self, container_id: ContainerID, found: Container) -> None:
        """Takes note of what Docker has told of the container already, and not of another one of the same id."""
        if (made := self._made.get(container_id)) is not None and made.name == found.name:
            made.see(found)

    async def glance(self, container_id: ContainerID) -> Container | None:
        """The container, when it runs, if Docker tells in a moment: where that hangs, nobody waits for each one."""
        made = self._made[container_id]
        if made.found is None or made.found.pid is None:
            if made.looking is None:
                made.looking = asyncio.ensure_future(self.look(container_id))
                made.looking.add_done_callback(made.looked)
                made.patience = time.monotonic() + _GLANCE
            await asyncio.wait([made.looking], timeout=max(made.patience - time.monotonic(), 0))
        return made.found

    def found(self, container_id: ContainerID) -> Container | None:
        """The container, as Docker has described it last."""
        return self._made[container_id].found

    def name(self, container_id: ContainerID) -> str:
        """How Docker calls the container."""
        return self._made[container_id].name

    def is_by_executor(self, container_id: ContainerID) -> bool:
        """Whether it is an executor that has Docker make it."""
        return self._made[container_id].by_executor

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """By its cgroups. Of a task whose container is not made yet, there is nothing to say."""
        cgroups = await self._cgroups(container_id, await self.glance(container_id))
        return NO_STATISTICS if cgroups is None else await asyncio.to_thread(cgroups.usage)

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Changes its cgroups. Those of a task stay as they are: it cannot get more (Mesos does the same)."""
        if self._made[container_id].by_executor or self._made[container_id].name.endswith(_EXECUTOR_SUFFIX):
            return
        found = self._made[container_id].found or await self.look(container_id)
        if (cgroups := await self._cgroups(container_id, found)) is not None:
            await asyncio.to_thread(cgroups.update, resources, limits)

    async def update_volumes(self, container_id: ContainerID, config: ContainerConfig, pidfd: int) -> None:
        """Docker mounts nothing into a container that runs, nor takes it away: that of a task that ends stays."""
        new, _ = self._volumes.changes(container_id, config)
        if new:
            raise ContainerError(f"{container_id} is of Docker, and gets no persistent volume while it runs")

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """Its addresses."""
        if (found := await self.glance(container_id)) is None:
            return NO_STATUS
        known = (("IPv4", found.ip_address), ("IPv6", found.ipv6_address))
        addresses = tuple(IPAddress(protocol, address) for protocol, address in known if address is not None)
        return ContainerStatus(network_infos=(NetworkInfo(ip_addresses=addresses),)) if addresses else NO_STATUS

    async def _cgroups(self, container_id: ContainerID, found: Container | None) -> ContainerCgroups | None:
        made = self._made[container_id]
        if made.cgroups is None:
            if found is None or found.pid is None:
                return None
            made.cgroups = await asyncio.to_thread(ContainerCgroups, found, self._flags)
        return made.cgroups

    # Its end.

    async def cleanup(self, container_id: ContainerID) -> None:
        """Stops it, as far as it runs. What Docker keeps of it goes away later, or at once where it has not started."""
        self._volumes.forget(container_id)
        made = self._made.get(container_id)
        if made is not None and made.asked and container_id not in self.attached:
            for name in made.names:
                await self._end(name, made)
        if made is not None and made.looking is not None:
            made.looking.cancel()
        self._made.pop(container_id, None)

    async def stop(self, container_id: ContainerID) -> None:
        """Has it end, while its output still is shown. That it does not is seen to later."""
        made = self._made.get(container_id)
        if made is None or made.by_executor or made.found is None or not made.found.running:
            return
        try:
            await self._docker.stop(made.name, self._flags.docker_stop_timeout)
        except NoSuchContainerError:
            return
        except DockerError as error:
            made.killed = await _kill(made)
            logger.error("%s was killed without Docker: %s", container_id, error)

    async def _end(self, name: str, made: Made) -> None:
        if made.killed and name == made.name:
            return
        try:
            found = await self._docker.inspect(name)
            if not self.is_own(found):
                return
            if found.running:
                await self._docker.stop(name, self._flags.docker_stop_timeout)
        except NoSuchContainerError:
            return
        except DockerError as error:
            if name != made.name or not await _kill(made):
                raise
            logger.error("%s was killed without Docker: %s", name, error)
            return
        if found.started and self._flags.docker_remove_delay:
            self.remove_later(found.id, self._flags.docker_remove_delay)
        else:
            await self._remove(found.id, 0)

    def remove_later(self, name: str, delay: float) -> None:
        """Has Docker forget a container that has ended, in so many seconds."""
        self._removals.spawn(self._remove(name, delay))

    async def remove_orphan(self, name: str) -> None:
        """Ends a container, and has Docker forget it. Raises DockerError."""
        with contextlib.suppress(NoSuchContainerError):
            await self._docker.stop(name, self._flags.docker_stop_timeout)
            await self._docker.remove(name, force=True)

    async def _remove(self, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            await self._docker.remove_ended(name)
        except DockerError as error:
            logger.error("%s stays in Docker: %s", name, error)

    async def close(self) -> None:
        """What was to be removed later is removed by the next agent, at once."""
        await self._removals.stop()


def _hidden(name: str, value: str) -> str:
    """The value, which has secrets. Raises ContainerError where each user of the host would see it."""
    if can_be_hidden(name, value):
        return value
    raise ContainerError(
        f"the variable {name!r} is secret, and too long, of several lines or no UTF-8, which Docker takes by a command"
        " line only",
        "encode it",
    )


def _agent_socket(environment: Mapping[str, str]) -> Sequence[Volume]:
    """The directory of the socket by which an executor is to reach the agent, if it is."""
    if (socket := environment.get("MESOS_DOMAIN_SOCKET")) is None:
        return ()
    directory = str(Path(socket).parent)
    return (Volume(directory, directory, VolumeMode.RO),)


async def _kill(made: Made) -> bool:
    """Ends the first process in the container, and all others with it; False if nobody knows which that is."""
    if made.found is None or made.found.pid is None:
        return False
    process = InitProcess.find(made.found.pid, made.started)
    if process is None:
        return True
    try:
        process.send_signal(signal.SIGKILL)
        await process.exited()
    finally:
        process.close()
    return True


def existing(directory: Path, path: str) -> Path:
    """A path in a sandbox, made as a directory where it is missing. Raises ContainerError if it leads out of it.

    Docker follows links when it mounts, as the host sees them.
    """
    target = directory / path
    real, inside = Path(os.path.realpath(target)), Path(os.path.realpath(directory))
    if not real.is_relative_to(inside):
        raise ContainerError(f"the host_path {path!r} of a volume leads out of the sandbox, to {real}")
    if not real.exists():
        real.mkdir(parents=True)
        owner = directory.stat()
        os.chown(real, owner.st_uid, owner.st_gid)
    return real
