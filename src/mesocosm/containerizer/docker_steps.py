"""The way of a container that Docker makes, and its end: what the Docker containerizer does at each step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mesocosm.container import ContainerConfig, ContainerID, ContainerType, Termination
from mesocosm.containerizer.base import ContainerIO, Fetch
from mesocosm.containerizer.checkpoint import Checkpoints
from mesocosm.containerizer.docker_isolator import DockerIsolator, existing
from mesocosm.containerizer.launching import Launching
from mesocosm.containerizer.lifecycle import Container
from mesocosm.containerizer.steps import Steps
from mesocosm.containerizer.supervision import Supervision
from mesocosm.dataclass import replace
from mesocosm.directories import make_directories
from mesocosm.docker.client import Docker, only_credentials, write_credentials
from mesocosm.docker.values import DockerError
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.external import one_line
from mesocosm.flags import Flags
from mesocosm.isolators.selection import NamedIsolator
from mesocosm.launcher.info import Credentials, LaunchInfo
from mesocosm.linux.path import open_in_root
from mesocosm.linux.tree import remove_path

_CONFIGURATIONS = (".docker/config.json", ".dockercfg")
"""Where credentials for registries are in a sandbox that they were fetched into."""
_MOST_CREDENTIALS = 1 << 20
_MOST_WORDS = 4096


class DockerSteps(Steps):
    """Those of containers of the type DOCKER.

    The process that is launched is a client of Docker, or an executor; what isolates is Docker's.
    """

    kind = ContainerType.DOCKER

    def __init__(self, flags: Flags, docker: Docker, made: DockerIsolator, fetch: Fetch | None) -> None:
        """`made` knows what Docker makes; without `fetch` no container can have URIs."""
        self._flags = flags
        self._docker = docker
        self._made = made
        self._fetch = fetch
        self._checkpoints = Checkpoints(flags.runtime_dir)
        self._ends: dict[ContainerID, asyncio.Future[Termination]] = {}
        self.pulling: set[ContainerID] = set()
        """The containers whose images are being brought."""
        self.record_pull: Callable[[float], None] = lambda _: None
        """Is told the seconds that each image took."""

    def select(self, flags: Flags, launcher: str, sole: ContainerConfig | None) -> list[NamedIsolator]:
        """One, which has Docker isolate."""
        return [NamedIsolator("docker", self._made)]

    def lay_out(self) -> None:
        """The credentials of the agent, for its client; and none, if it has none any more."""
        with contextlib.suppress(FileNotFoundError):
            remove_path(self._home)
        if self._flags.docker_config is not None:
            make_directories(self._home)
            write_credentials(self._home, self._flags.docker_config)

    def check(self, container_id: ContainerID, config: ContainerConfig, isolation: Collection[str]) -> None:
        """Refuses what does not say what to make, and what it cannot bring. Raises ContainerError."""
        if config.docker is None:
            raise ContainerError(f"{container_id} does not say what Docker shall make")
        if config.command.uris and self._fetch is None:
            raise UnsupportedError(f"{container_id}: this containerizer fetches no URIs", "run it in an agent")

    def describe(self, config: ContainerConfig, credentials: Credentials | None, flags: Flags) -> LaunchInfo:
        """Nothing: the process on the host is no command of the container's."""
        return LaunchInfo()

    async def bring(
        self, container_id: ContainerID, config: ContainerConfig, owner: Credentials | None, log: int
    ) -> None:
        """What a container needs: what is fetched, the image, and what Docker makes of it."""
        if container_id in self._made.attached:
            return
        assert config.docker is not None
        assert config.directory is not None
        if self._fetch is not None:
            await self._fetch(container_id, config, owner, log)
        self.pulling.add(container_id)
        try:
            await self._pull(container_id, config.docker.image, config.directory, force=config.docker.force_pull_image)
            if config.command.program is not None and self._flags.docker_mesos_image is not None:
                await self._docker.pull(self._flags.docker_mesos_image, home=self._home_if_any)
            if config.docker.volume_driver is None:
                await asyncio.to_thread(_make_sources, config)
            await self._made.make(container_id)
        finally:
            self.pulling.discard(container_id)

    async def _pull(self, container_id: ContainerID, image: str, sandbox: Path, *, force: bool) -> None:
        """With the credentials that were fetched, or else those of the agent."""
        began = time.monotonic()
        found = await asyncio.to_thread(find_credentials, sandbox)
        if found is None:
            await self._docker.pull(image, force=force, home=self._home_if_any)
        else:
            await self._pull_with(found, container_id, image, force=force)
        self.record_pull(time.monotonic() - began)

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

    async def start(
        self,
        launching: Launching,
        supervision: Supervision,
        container: Container,
        parent: Container | None,
        io: ContainerIO | None,
    ) -> None:
        """Until Docker has started it, or the process on the host is the executor that will have it do so."""
        began, container_id = time.time(), container.container_id
        await super().start(launching, supervision, container, parent, io)
        if self._made.is_by_executor(container_id):
            return
        end = asyncio.ensure_future(super().supervise(supervision, container))
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

    # The end.

    async def supervise(self, supervision: Supervision, container: Container) -> Termination:
        """Waits until the process on the host has ended, and asks Docker how the container has."""
        container_id = container.container_id
        termination = await (self._ends.pop(container_id, None) or super().supervise(supervision, container))
        if self._made.is_by_executor(container_id):
            return termination
        return await self._described(container_id, termination)

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

    async def stop(self, container_id: ContainerID) -> None:
        """Has Docker stop it, while its output still is shown."""
        await self._made.stop(container_id)

    # Credentials.

    @property
    def _home(self) -> Path:
        return self._flags.runtime_dir / "home"

    @property
    def _home_if_any(self) -> Path | None:
        return None if self._flags.docker_config is None else self._home


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
