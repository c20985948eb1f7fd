"""The Docker containerizer: containers that Docker makes, by its command line.

Each has a process on the host, which is launched as the Mesos containerizer launches a command, but without isolation:
a client of Docker that shows its output, or the executor of a task, which has Docker make the task's container.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mesocosm.concurrency import together
from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, ContainerType, Termination
from mesocosm.containerizer.base import DOCKER_PULLS, ContainerIO, Fetch, LaunchResult, Log
from mesocosm.containerizer.directory import make_directories
from mesocosm.containerizer.docker_isolator import LABEL, DockerIsolator, existing
from mesocosm.containerizer.launching import Launching
from mesocosm.containerizer.lifecycle import Container, State
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.docker import values
from mesocosm.docker.client import Docker, only_credentials, write_credentials
from mesocosm.docker.options import NAME_PREFIX
from mesocosm.docker.values import DockerError
from mesocosm.errors import ContainerError, FlagError, RecoveryError, UnsupportedError
from mesocosm.external import one_line
from mesocosm.flags import Flags
from mesocosm.isolators.selection import NamedIsolator
from mesocosm.launcher.base import InitProcess
from mesocosm.launcher.info import Credentials, LaunchInfo
from mesocosm.linux.path import open_in_root
from mesocosm.linux.tree import remove_path
from mesocosm.statistics import ResourceStatistics

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that Docker has to answer a question."""
_OLDEST = (1, 8, 0)
"""The version of Docker's client that is needed at least, as in Mesos."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(rf"{NAME_PREFIX}([^.]+)(\.[^.]+){{0,2}}")
_CONFIGURATIONS = (".docker/config.json", ".dockercfg")
"""Where credentials for registries are in a sandbox that they were fetched into."""
_MOST_CREDENTIALS = 1 << 20
_MOST_WORDS = 4096


class DockerContainerizer(MesosContainerizer):
    """Launches containers of the type DOCKER. Source: docker-containerizer.md of Mesos.

    With a Docker that does not answer, all that needs it fails after a while, and the rest goes on.
    """

    kind = ContainerType.DOCKER

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
        super().__init__(own, final_usage=final_usage, fetch=self._bring, log=log)
        self._given_fetch = fetch
        self._docker = Docker(shutil.which(flags.docker) or flags.docker, flags.docker_socket, PATIENCE)
        self._made = DockerIsolator(own, self._docker)
        self._pulling: set[ContainerID] = set()
        self._record_pull: Callable[[float], None] = lambda _: None
        self._ends: dict[ContainerID, asyncio.Future[Termination]] = {}

    @property
    def isolation(self) -> list[str]:
        """None: Docker isolates."""
        return []

    def _select(self, launcher: str) -> list[NamedIsolator]:
        return [NamedIsolator("docker", self._made)]

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

    def _lay_out(self, isolation: Collection[str]) -> None:
        """The credentials of the agent, for its client; and none, if it has none any more."""
        with contextlib.suppress(FileNotFoundError):
            remove_path(self._home)
        if self._flags.docker_config is not None:
            make_directories(self._home)
            write_credentials(self._home, self._flags.docker_config)

    def time_pulls(self, record: Callable[[str, float], None]) -> None:
        """Has `record` called for each image that Docker has brought, with how Mesos calls that, and the seconds."""
        self._record_pull = partial(record, DOCKER_PULLS)

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
        return container_id is not None and container_id not in self._containers

    # The way of a launch.

    async def launch(
        self, container_id: ContainerID, config: ContainerConfig, io: ContainerIO | None = None
    ) -> LaunchResult:
        """As the Mesos containerizer; of whatever type, there are no containers in those of Docker."""
        if container_id.parent is not None and (config.type is self.kind or self.knows(container_id.root)):
            raise ContainerError(f"{container_id}: Docker nests no containers")
        return await super().launch(container_id, config, io)

    def _check(self, container_id: ContainerID, config: ContainerConfig) -> None:
        if config.docker is None:
            raise ContainerError(f"{container_id} does not say what Docker shall make")
        if config.command.uris and self._given_fetch is None:
            raise UnsupportedError(f"{container_id}: this containerizer fetches no URIs", "run it in an agent")

    def _launching(self) -> Launching:
        return replace(super()._launching(), describe=lambda *_: LaunchInfo())

    async def _bring(
        self, container_id: ContainerID, config: ContainerConfig, owner: Credentials | None, log: int
    ) -> None:
        """What a container needs: what is fetched, the image, and what Docker makes of it."""
        if container_id in self._made.attached:
            return
        assert config.docker is not None
        assert config.directory is not None
        if self._given_fetch is not None:
            await self._given_fetch(container_id, config, owner, log)
        self._pulling.add(container_id)
        try:
            await self._pull(container_id, config.docker.image, config.directory, force=config.docker.force_pull_image)
            if config.command.program is not None and self._flags.docker_mesos_image is not None:
                await self._docker.pull(self._flags.docker_mesos_image, home=self._home_if_any)
            if config.docker.volume_driver is None:
                await asyncio.to_thread(_make_sources, config)
            await self._made.make(container_id)
        finally:
            self._pulling.discard(container_id)

    async def _pull(self, container_id: ContainerID, image: str, sandbox: Path, *, force: bool) -> None:
        """With the credentials that were fetched, or else those of the agent."""
        began = time.monotonic()
        found = await asyncio.to_thread(find_credentials, sandbox)
        if found is None:
            await self._docker.pull(image, force=force, home=self._home_if_any)
        else:
            await self._pull_with(found, container_id, image, force=force)
        self._record_pull(time.monotonic() - began)

    async def _pull_with(
        self, credentials: Mapping[str, Any], container_id: ContainerID, image: str, *, force: bool
    ) -> None:
        home = self._checkpoints.directory(container_id) / "home"
        try:
            write_credentials(home, credentials)
            await self._docker.pull(image, force=force, home=home)
        finally:
            with contextlib.suppress(FileNotFoundError):
                remove_path(home)

    async def _start(self, container: Container, io: ContainerIO | None) -> None:
        """Until Docker has started it, or the process on the host is the executor that will have it do so."""
        began, container_id = time.time(), container.container_id
        await super()._start(container, io)
        if self._made.is_by_executor(container_id):
            return
        end = asyncio.ensure_future(self._supervision.end(container))
        try:
            await self._await_start(container, end, began)
        except BaseException:
            end.cancel()
            await asyncio.wait([end])
            raise
        self._ends[container_id] = end

    async def _await_start(self, container: Container, end: asyncio.Future[Termination], began: float) -> None:
        container_id, sandbox = container.container_id, container.config.directory
        told = container_id in self._made.attached or await self._await_event(container_id, end, began)
        found = await self._made.look(container_id)
        if not told and (found is None or not found.started):
            raise DockerError(f"Docker does not start {container_id}", f"look whether {self._docker.host} hangs")
        if found is None or not found.started:
            assert sandbox is not None
            said = "" if found is None else found.error or await asyncio.to_thread(_last_words, sandbox)
            reason = one_line(said) or "its client has ended"
            raise ContainerError(f"{container_id} was not started by Docker: {reason}")

    async def _await_event(self, container_id: ContainerID, end: asyncio.Future[Any], began: float) -> bool:
        """Whether Docker has told something in time. It tells nothing if the clock was set back meanwhile."""
        event: asyncio.Future[Any] = asyncio.ensure_future(
            self._docker.event(self._made.name(container_id), "start", since=began)
        )
        try:
            done, _ = await asyncio.wait(
                [end, event], return_when=asyncio.FIRST_COMPLETED, timeout=self._docker.patience
            )
        finally:
            event.cancel()
            with contextlib.suppress(asyncio.CancelledError, DockerError):
                await event  # Whether it has started is asked anyway.
        return bool(done)

    # What can be done with a container.

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What a running container is: its process is the first one in there, where Docker has said which that is."""
        known = await super().status(container_id)
        found = None if self._made.is_by_executor(container_id) else await self._made.glance(container_id)
        return known if found is None or found.pid is None else replace(known, executor_pid=found.pid)

    async def kill(self, container_id: ContainerID, number: int) -> bool:
        """Sends a signal to the first process of the container, or to the executor; False if that has ended."""
        self._running(container_id)
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
            else ("PULLING" if container_id in self._pulling else "FETCHING")
            for container_id, state in super().pending().items()
        }

    # The end.

    async def _supervise(self, container: Container) -> Termination:
        """Waits until the process on the host has ended, and asks Docker how the container has."""
        container_id = container.container_id
        end = self._ends.pop(container_id, None) or asyncio.ensure_future(self._supervision.end(container))
        termination = await end
        if not self._made.is_by_executor(container_id):
            termination = await self._described(container_id, termination)
        container.termination = termination
        container.recorded = self._ended.record(container_id, termination)
        return termination

    async def _described(self, container_id: ContainerID, termination: Termination) -> Termination:
        """With the container's own status, if that is to be known."""
        found = self._made.found(container_id)
        try:
            if found is None or found.running:
                found = await self._made.look(container_id)
        except DockerError as error:
            return replace(termination, status=None, message=f"how it has ended is not known: {error}")
        if found is None or found.exit_code is None:
            return replace(
                termination, status=None, message="Docker's client has ended before the container, or without"
            )
        return replace(termination, status=found.exit_code << 8)

    async def _take_apart(self, container: Container) -> ResourceStatistics | None:
        await self._made.stop(container.container_id)
        return await super()._take_apart(container)

    # Credentials.

    @property
    def _home(self) -> Path:
        return self._flags.runtime_dir / "home"

    @property
    def _home_if_any(self) -> Path | None:
        return None if self._flags.docker_config is None else self._home


def parse_name(name: str) -> ContainerID | None:
    """The container that Docker calls so; None for one that no agent has asked for.

    It is `mesos-ID`, or as of Mesos before 1.4 `mesos-AGENT.ID`; behind that may come `.executor`.
    """
    if not _NAME.fullmatch(name):
        return None
    *_, value = name.removeprefix(NAME_PREFIX).removesuffix(".executor").split(".")
    return ContainerID(value)


def _last_words(sandbox: Path) -> str:
    """What the client of a container that has not started has said. Nobody else has written there."""
    with contextlib.suppress(FileNotFoundError):
        return (sandbox / "stderr").read_bytes()[-_MOST_WORDS:].decode(errors="replace")
    return ""


def _make_sources(config: ContainerConfig) -> None:
    assert config.directory is not None
    for volume in config.volumes:
        if volume.host_path is not None and not volume.host_path.startswith("/"):
            existing(config.directory, volume.host_path)


def find_credentials(sandbox: Path) -> Mapping[str, Any] | None:
    """Those for registries that were fetched into the sandbox, if any. Raises ContainerError."""
    directory = os.open(sandbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in _CONFIGURATIONS:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                with open(open_in_root(directory, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                    content = json.loads(file.read(_MOST_CREDENTIALS))
                if not isinstance(content, dict):
                    raise ContainerError(f"{path} in the sandbox is no object of JSON")
                return only_credentials(content)
    except ValueError as error:
        raise ContainerError(f"the credentials for registries in the sandbox are no JSON: {error}") from error
    finally:
        os.close(directory)
    return None
