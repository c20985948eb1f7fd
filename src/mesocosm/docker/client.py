"""Docker's command line as a client. Each call is a process, bounded in time, that ends with its caller.

A daemon that hangs makes the client hang, too: what is not answered in `patience` is a DockerError, and the process is
killed with all that it has started, as it is when the caller is cancelled. The source is docs.docker.com/reference/cli.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.docker.values import Container, DockerError, HangingError, Image, NameTakenError, NoSuchContainerError
from mesocosm.external import MOST_OUTPUT, Execution, how_ended
from mesocosm.linux.poll import readable
from mesocosm.units import format_duration

DEFAULT_SOCKET = "/var/run/docker.sock"
DEFAULT_PATIENCE = 60.0
_PULL_PATIENCE = 3600.0
"""Seconds that an image may take to come; a destroyed container does not wait for it."""
_BATCH = 50
"""Containers that are asked for at once: each is described by some 10 kB."""
_MOST_DESCRIBED = 16 << 20
_LONGEST_LINE = 60_000
"""Bytes of a variable that the client reads from a file: it gives up at 64 KiB."""
_VERSION = re.compile(r"version v?(\d+)\.(\d+)(?:\.(\d+))?")
_MISSING = re.compile(r"no such (container|object|image)|no container with name", re.IGNORECASE)
_TAKEN = re.compile(r"container name .* is already in use", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"cannot connect to the docker daemon|failed to connect to the docker api|error during connect"
    r"|permission denied while trying to connect|dial unix|unable to connect to podman",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Docker:
    """The client `program`, asking the daemon at `socket`, a path, or a URL as DOCKER_HOST has it.

    `environment` is that of each process (None: this one's). Every method raises DockerError, whose text is one line.
    """

    program: str = "docker"
    socket: str = DEFAULT_SOCKET
    patience: float = DEFAULT_PATIENCE
    environment: Mapping[str, str] | None = None

    @property
    def host(self) -> str:
        """The daemon, as a URL."""
        return f"unix://{self.socket}" if self.socket.startswith("/") else self.socket

    # Of the daemon and its images.

    async def version(self) -> tuple[int, int, int]:
        """That of the client, which no daemon is asked for."""
        printed = (await self._ask("--version")).decode(errors="replace")
        if (found := _VERSION.search(printed)) is None:
            raise DockerError(f"{self.program} --version says no version of Docker: {printed.strip()!r}")
        return int(found[1]), int(found[2]), int(found[3] or 0)

    async def check(self) -> None:
        """Returns if there is a daemon that answers."""
        await self._ask("version", "--format", "{{.Server.Version}}")

    async def pull(self, image: str, *, force: bool = False, home: Path | None = None) -> Image:
        """The image, which comes from its registry if it is not here, or if `force`.

        The credentials for that are in `home`, as `write_credentials` has left them; None: this user's.
        """
        name = with_tag(image)
        if not force and (found := await self.image(name)) is not None:
            return found
        await self._ask("pull", name, variables=_home(home), patience=_PULL_PATIENCE)
        if (found := await self.image(name)) is None:
            raise DockerError(f"the image {name!r} was pulled, and is not there")
        return found

    async def image(self, name: str) -> Image | None:
        """The image, if it is here."""
        try:
            described = await self._describe("image", [name])
        except NoSuchContainerError:
            return None
        return Image.of(described[0]) if described else None

    # Of containers. `name` is a name or an id.

    async def create(self, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
        """The id of a new container, which is not started; `arguments` are those of `docker create`.

        It has the `variables`, which no user of the host sees in the command line of a process. Raises NameTakenError
        where there is one of its name.
        """
        with _environment_file(variables or {}) as (options, inherited):
            printed = await self._ask("create", *options, *arguments, inherited=inherited)
        # What it says about an image that it pulls comes first.
        return printed.decode(errors="replace").strip().rpartition("\n")[2]

    def start_attached(self, name: str, stdout: int, stderr: int) -> Execution:
        """Starts the container; the process copies its output to the descriptors until the end.

        That fails in the process, whose status says so (125), and in what `inspect` says then.
        """
        return self._execute(_start(name), stdout=stdout, stderr=stderr)

    def start_command(self, name: str) -> Sequence[str]:
        """The command line of that process, for whoever executes it by other means."""
        return self._argv(_start(name))

    def attach_command(self, name: str) -> Sequence[str]:
        """The same for one that runs: from now on, its output is copied, and no signal is passed on."""
        return self._argv(["attach", "--no-stdin", "--sig-proxy=false", name])

    def execute(
        self, name: str, argv: Sequence[str], variables: Mapping[str, str], *, stdout: int, stderr: int
    ) -> Execution:
        """Executes a command in a running container (`docker exec`). Its status is that of the process.

        It has the `variables` beside those of the container, which are seen by no user of the host either. What the
        process started in the container does not end with it.
        """
        with _environment_file(variables) as (options, inherited):
            arguments = ["exec", *options, name, *argv]
            return self._execute(arguments, stdout=stdout, stderr=stderr, inherited=inherited)

    async def inspect(self, name: str) -> Container:
        """What is to be known of it. Raises NoSuchContainerError."""
        return Container.of(await self.describe(name))

    async def describe(self, name: str) -> Mapping[str, Any]:
        """All that Docker says of it. Raises NoSuchContainerError."""
        described = await self._describe("container", [name])
        if len(described) != 1:
            raise DockerError(f"docker inspect describes {len(described)} containers by the name {name!r}")
        return described[0]

    async def event(self, name: str, kind: str, since: float) -> None:
        """Returns when that has happened to it, however long that takes, or did `since` then, in seconds of the epoch.

        The container does not have to be there yet.
        """
        chosen = [f"--since={since:.9f}", "--filter=type=container", f"--filter=container={name}"]
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            execution = self._execute(["events", *chosen, f"--filter=event={kind}"], stdout=writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        try:
            await readable(reader)
            told = os.read(reader, 1)
            if not told:
                await execution.converse()
        finally:
            os.close(reader)
            status = await execution.end()
        if not told:
            self._raise(("events",), status, execution, partly=False)

    async def containers(self, prefix: str = "", *, ended: bool = True) -> list[Container]:
        """Those whose names begin so, also if they do not run, unless those that have `ended` are not wanted."""
        chosen = ["--all"] if ended else []
        printed = await self._ask("ps", *chosen, "--no-trunc", "--filter", f"name={prefix}", "--format", "{{.Names}}")
        # A container has more names by links of others: a/b. Its own comes without a slash.
        names = [name for line in printed.decode().splitlines() for name in line.split(",") if "/" not in name]
        found = [name for name in names if name.startswith(prefix)]
        described = []
        for start in range(0, len(found), _BATCH):
            # One that is gone meanwhile is not described.
            described += await self._describe("container", found[start : start + _BATCH], partly=True)
        return [Container.of(each) for each in described]

    async def stop(self, name: str, grace: float) -> None:
        """Sends its stop signal, and SIGKILL if it runs after `grace` seconds, which are whole ones to Docker."""
        seconds = max(round(grace), 0)
        await self._ask("stop", f"--time={seconds}", name, patience=seconds + self.patience)

    async def kill(self, name: str, signal: int) -> None:
        """Sends a signal to it."""
        await self._ask("kill", f"--signal={int(signal)}", name)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Removes it with its nameless volumes, and by `force` also one that runs. One that is gone is no error."""
        with contextlib.suppress(NoSuchContainerError):
            await self._ask("rm", *(["--force"] if force else []), "--volumes", name)

    async def remove_ended(self, name: str) -> None:
        """Removes it, unless it runs; one that is gone is no error."""
        with contextlib.suppress(NoSuchContainerError):
            if not (await self.inspect(name)).running:
                await self.remove(name)

    # Processes.

    async def _describe(self, kind: str, names: Sequence[str], *, partly: bool = False) -> list[Mapping[str, Any]]:
        arguments = ["inspect", f"--type={kind}", *names]
        printed = await self._ask(*arguments, most=_MOST_DESCRIBED, partly=partly)
        try:
            described = json.loads(printed)
        except ValueError as error:
            raise DockerError(f"{self.program} inspect prints no JSON: {error}") from error
        if not isinstance(described, list) or any(not isinstance(each, dict) for each in described):
            raise DockerError(f"{self.program} inspect prints no list of objects")
        return described

    async def _ask(
        self,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        inherited: Sequence[int] = (),
        patience: float | None = None,
        most: int = MOST_OUTPUT,
        partly: bool = False,
    ) -> bytes:
        """What the client prints. `partly`: what is missing is no error where something else is described."""
        patience = self.patience if patience is None else patience
        execution = self._execute(arguments, variables=variables, inherited=inherited, most=most)
        try:
            async with asyncio.timeout(patience):
                await execution.converse()
        except TimeoutError:
            raise HangingError(
                f"{self._said(arguments)} was killed: it took longer than {format_duration(patience)}",
                f"look whether the daemon at {self.host} hangs",
            ) from None
        finally:
            status = await execution.end()
        if status:
            self._raise(arguments, status, execution, partly=partly)
        if len(execution.output) > most:
            raise DockerError(f"{self._said(arguments)} prints more than {most} bytes")
        return bytes(execution.output)

    def _raise(self, arguments: Sequence[str], status: int, execution: Execution, *, partly: bool) -> None:
        text = execution.errors.decode(errors="replace")
        reason, _, _ = bytes(execution.errors or execution.output).strip().partition(b"\n\n")  # What follows is advice.
        message = f"{self._said(arguments)} failed: {how_ended(status, reason)}"
        if _UNREACHABLE.search(text):
            raise DockerError(message, f"start the daemon at {self.host}, or give its --docker_socket")
        if _TAKEN.search(text):
            raise NameTakenError(message)
        if not _MISSING.search(text):
            raise DockerError(message)
        if not partly:
            raise NoSuchContainerError(message)

    def _execute(
        self,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        inherited: Sequence[int] = (),
        most: int = MOST_OUTPUT,
    ) -> Execution:
        environment = {**(os.environ if self.environment is None else self.environment), **(variables or {})}
        try:
            return Execution.start(
                self._argv(arguments), environment, stdout=stdout, stderr=stderr, inherited=inherited, most=most
            )
        except ValueError as error:
            raise DockerError(
                f"{self._said(arguments)} is told a NUL character, or no UTF-8", "leave it out"
            ) from error
        except OSError as error:
            message = f"Docker's client {self.program!r} cannot be executed: {error.strerror}"
            advice = "ask for less" if error.errno == errno.E2BIG else "install it, or say with --docker where it is"
            raise DockerError(message, advice) from error

    def _argv(self, arguments: Sequence[str]) -> Sequence[str]:
        return (self.program, "-H", self.host, *arguments)

    def _said(self, arguments: Sequence[str]) -> str:
        return f"{Path(self.program).name} {arguments[0]}"


def _start(name: str) -> Sequence[str]:
    return ("start", "--attach", name)


def with_tag(image: str) -> str:
    """The image's name with a tag: without one, all that there are would be pulled. A digest is one, too."""
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


def write_credentials(home: Path, config: Mapping[str, Any]) -> None:
    """Makes `home`, where a client finds the `config` as its user's; only this user can read it. Raises OSError.

    It is what a `config.json` has, or the older `.dockercfg`.
    """
    directory = home / ".docker"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(directory / "config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"auths": dict(config)} if _is_old(config) else dict(config), file)


def only_credentials(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a configuration says of registries: anything else in it might name programs that a client executes."""
    return {"auths": config if _is_old(config) else config.get("auths", {})}


def _is_old(config: Mapping[str, Any]) -> bool:
    """Whether it is a `.dockercfg`: registries, with credentials for each."""
    return all(isinstance(value, Mapping) and "auth" in value for value in config.values())


def _home(home: Path | None) -> Mapping[str, str]:
    """The variables of a client, Docker's or Podman's, that looks there for credentials."""
    if home is None:
        return {}
    directory = home / ".docker"
    return {"HOME": str(home), "DOCKER_CONFIG": str(directory), "REGISTRY_AUTH_FILE": str(directory / "config.json")}


@contextlib.contextmanager
def _environment_file(variables: Mapping[str, str]) -> Iterator[tuple[Sequence[str], Sequence[int]]]:
    """The options that give a container its variables, and a descriptor that they need.

    What cannot be a line of such a file is an option, and seen by all.
    """
    lines = {name: value for name, value in variables.items() if can_be_hidden(name, value)}
    options = [f"--env={name}={value}" for name, value in variables.items() if name not in lines]
    if not lines:
        yield options, ()
        return
    with open(os.memfd_create("environment"), "w+", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{name}={value}\n" for name, value in lines.items())
        file.flush()
        yield [f"--env-file=/dev/fd/{file.fileno()}", *options], (file.fileno(),)


def can_be_hidden(name: str, value: str) -> bool:
    """Whether the client reads a variable from a file as it is (parseKeyValueFile of github.com/docker/cli)."""
    simple = not any(character.isspace() for character in name) and not name.startswith("#") and "\ufeff" not in name
    line = f"{name}={value}".encode(errors="surrogateescape")
    is_text = not any("\udc80" <= character <= "\udcff" for character in value)
    return simple and is_text and not {"\n", "\r"} & {*value} and len(line) < _LONGEST_LINE
