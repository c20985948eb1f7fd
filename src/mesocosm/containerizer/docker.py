"""The Docker containerizer: containers that Docker makes, by its command line.

Each has a process on the host, which is launched as the Mesos containerizer launches a command, but without isolation:
a client of Docker that shows its output, or the executor of a task, which has Docker make the task's container.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from functools import partial

from mesocosm.concurrency import together
from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, ContainerType
from mesocosm.containerizer.base import DOCKER_PULLS, ContainerIO, Fetch, LaunchResult, Log
from mesocosm.containerizer.docker_isolator import LABEL, DockerIsolator
from mesocosm.containerizer.docker_steps import DockerSteps
from mesocosm.containerizer.lifecycle import State
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.dataclass import replace
from mesocosm.docker import values
from mesocosm.docker.client import Docker
from mesocosm.docker.options import NAME_PREFIX
from mesocosm.errors import ContainerError, FlagError, RecoveryError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.launcher.base import InitProcess

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that Docker has to answer a question."""
_OLDEST = (1, 8, 0)
"""The version of Docker's client that is needed at least, as in Mesos."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(rf"{NAME_PREFIX}([^.]+)(\.[^.]+){{0,2}}")


class DockerContainerizer(MesosContainerizer):
    """Launches containers of the type DOCKER. Source: docker-containerizer.md of Mesos.

    With a Docker that does not answer, all that needs it fails after a while, and the rest goes on.
    """

    def __init__(
        self, flags: Flags, *, final_usage: bool = False, fetch: Fetch | None = None, log: Log | None = None
    ) -> None:
        """As for the Mesos containerizer, whose `flags` can be the same. Raises FlagError."""
        own = replace(
            flags,
            runtime_dir=flags.runtime_dir / "docker",
            cgroups_root=f"{flags.cgroups_root}-docker",
            image_providers=(),
        )
        self._docker = Docker(shutil.which(flags.docker) or flags.docker, flags.docker_socket, PATIENCE)
        self._made = DockerIsolator(own, self._docker)
        self._docker_steps = DockerSteps(own, self._docker, self._made, fetch)
        super().__init__(
            own, final_usage=final_usage, fetch=self._docker_steps.bring, log=log, steps=self._docker_steps
        )

    @property
    def isolation(self) -> list[str]:
        """None: Docker isolates."""
        return []

    # Beginning.

    def start(self) -> None:
        """Makes ready for launches. Raises FlagError or OSError, and has taken nothing then."""
        if shutil.which(self._docker.program) is None:
            raise FlagError(
                f"--docker: there is no program {self._flags.docker!r}", "install Docker, or say where its client is"
            )
        if not self._flags.docker_socket.startswith("/"):
            raise FlagError(f"--docker_socket: {self._flags.docker_socket!r} is no absolute path", "give one")
        super().start()

    def time_pulls(self, record: Callable[[str, float], None]) -> None:
        """Has `record` called for each image that Docker has brought, with how Mesos calls that, and the seconds."""
        self._docker_steps.record_pull = partial(record, DOCKER_PULLS)

    async def recover(self, known: Collection[ContainerID] | None = None, *, strict: bool = True) -> None:
        """Takes up the containers of an earlier one. Those that run without a client get another one.

        What Docker has besides for an agent is removed, unless `docker_kill_orphans` is off. Raises DockerError where
        Docker does not answer, and else as the Mesos containerizer.
        """
        version = await self._docker.version()
        if version < _OLDEST:
            raise UnsupportedError(f"--docker: {self._flags.docker} is of version {version}", "1.8 is the oldest")
        found = await self._docker.containers(NAME_PREFIX)
        by_id = {container_id: each for each in found if (container_id := self._parse(each)) is not None}
        unattended = {
            container_id: config
            for container_id, config in self._unattended(by_id).items()
            if known is None or container_id in known
        }
        left = await self._recover(by_id, unattended, known, strict=strict)
        if self._flags.docker_kill_orphans:
            await together(self._made.remove_orphan(each.name) for each in found if self._is_orphan(each))
        if left is not None:
            raise left

    async def _recover(
        self,
        found: Mapping[ContainerID, values.Container],
        unattended: Mapping[ContainerID, ContainerConfig],
        known: Collection[ContainerID] | None,
        *,
        strict: bool,
    ) -> ExceptionGroup[Exception] | None:
        """Takes up what has a process on the host, and gives the others one; returns what could not be destroyed."""
        self._made.attached |= set(unattended)
        left = None
        try:
            try:
                await super().recover(known, strict=strict)
            except ExceptionGroup as group:
                left = group
            for container_id, each in found.items():
                self._made.see(container_id, each)  # It may have to be ended without Docker.
            for container_id, config in unattended.items():
                await self._attach(container_id, config)
        finally:
            self._made.attached -= set(unattended)
        return left

    def _unattended(self, running: Mapping[ContainerID, values.Container]) -> dict[ContainerID, ContainerConfig]:
        """The containers whose process on the host has ended, and which run in Docker nevertheless."""
        found = {}
        for container_id, container in running.items():
            with contextlib.suppress(RecoveryError):  # Of which the recovery tells.
                launched, config = self._checkpoints.launched(container_id), self._checkpoints.config(container_id)
                if launched is None or config is None or not container.running:
                    continue
                if self._checkpoints.termination(container_id) is not None or self._has_executor(config):
                    continue
                process = InitProcess.find(launched.pid, launched.started)
                if launched.boot_id != self._boot_id or process is None or process.has_exited():
                    found[container_id] = config
                if process is not None:
                    process.close()
        return found

    def _has_executor(self, config: ContainerConfig) -> bool:
        return config.command.program is not None and self._flags.docker_mesos_image is None

    async def _attach(self, container_id: ContainerID, config: ContainerConfig) -> None:
        """Launches the process of a container again, which the recovery has taken apart, but not Docker's part."""
        self._ended.forget(container_id)
        try:
            await self.launch(container_id, config)
        except (ContainerError, OSError) as error:
            logger.error("%s runs, and is lost: %s", container_id, error)
        else:
            logger.info("attached again", extra={"container": container_id})

    def _parse(self, found: values.Container) -> ContainerID | None:
        """The container that it is; None if it is another agent's, or may be: people can give names, too."""
        parsed = parse_name(found.name)
        if parsed is None or self._made.is_own(found):
            return parsed
        return parsed if LABEL not in found.labels and _UUID.fullmatch(parsed.value) else None

    def _is_orphan(self, found: values.Container) -> bool:
        container_id = self._parse(found)
        return container_id is not None and container_id not in self._lives

    # The way of a launch.

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        """As the Mesos containerizer; of whatever type, there are no containers in those of Docker."""
        if container_id.parent is not None and (config.type is ContainerType.DOCKER or self.knows(container_id.root)):
            raise ContainerError(f"{container_id}: Docker nests no containers")
        return await super().launch(container_id, config, io)

    # What can be done with a container.

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What a running container is: its process is the first one in there, where Docker has said which that is."""
        known = await super().status(container_id)
        found = None if self._made.is_by_executor(container_id) else await self._made.glance(container_id)
        return known if found is None or found.pid is None else replace(known, executor_pid=found.pid)

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        """Sends a signal to the first process of the container, or to the executor; False if that has ended."""
        await self._lives.await_running(container_id)
        if self._made.is_by_executor(container_id):
            return await super().kill(container_id, number)
        found = await self._made.look(container_id)
        if found is None or not found.running:
            return False
        await self._docker.kill(found.name, number)
        return True

    def pending(self) -> dict[ContainerID, str]:
        """Those that are on their way to run, or to end: FETCHING, PULLING or DESTROYING."""
        return {
            container_id: state
            if state == State.DESTROYING.value
            else ("PULLING" if container_id in self._docker_steps.pulling else "FETCHING")
            for container_id, state in super().pending().items()
        }


def parse_name(name: str) -> ContainerID | None:
    """The container that Docker calls so; None for one that no agent has asked for.

    It is `mesos-ID`, or as of Mesos before 1.4 `mesos-AGENT.ID`; behind that may come `.executor`.
    """
    if not _NAME.fullmatch(name):
        return None
    *_, value = name.removeprefix(NAME_PREFIX).removesuffix(".executor").split(".")
    return ContainerID(value)
