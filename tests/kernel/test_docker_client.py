"""Docker's command line as a client, of a real daemon, and of none."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.docker.client import Docker, write_credentials
from mesocosm.docker.values import DockerError, NoSuchContainerError
from mesocosm.linux.poll import readable
from tests.docker_daemon import IMAGE
from tests.docker_daemon import Docker as Daemon

pytestmark = pytest.mark.kernel


@pytest.fixture
def client(shared_docker: Daemon) -> Docker:
    return Docker(socket=str(shared_docker.socket))


@asynccontextmanager
async def created(client: Docker, name: str, *command: str, **variables: str) -> AsyncIterator[str]:
    """A container that is removed at the end."""
    arguments = ["--name", name, "--net=none", "--entrypoint=/bin/sh", IMAGE, "-c", *command]
    identity = await client.create(arguments, variables)
    try:
        yield identity
    finally:
        await client.remove(name, force=True)


@pytest.fixture
def hanging(run_directory: Path) -> Iterator[Docker]:
    """One whose daemon takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_directory / "hanging"))
        listener.listen()
        yield Docker(socket=str(run_directory / "hanging"), patience=0.5)


async def test_the_life_of_a_container(client: Docker, unique_name: str, run_directory: Path) -> None:
    """Reference: DockerTest.ROOT_DOCKER_interface."""
    await client.check()
    output = os.open(run_directory / "output", os.O_RDWR | os.O_CREAT)
    async with created(client, unique_name, "echo out; echo err >&2; sleep 600") as identity:
        new = await client.inspect(unique_name)
        assert (new.id, new.name, new.started, new.running, new.pid) == (identity, unique_name, False, False, None)
        attached = client.start_attached(unique_name, output, output)
        while not (running := await client.inspect(unique_name)).started:
            pass
        assert running.running
        assert running.pid is not None
        assert (await client.inspect(identity)).name == unique_name
        assert [each.name for each in await client.containers(unique_name)] == [unique_name]
        assert await client.containers(f"{unique_name}-other") == []
        pidfd = os.pidfd_open(running.pid)
        await client.stop(unique_name, 0)
        await readable(pidfd)
        os.close(pidfd)
        await attached.converse()
        assert await attached.end() == 137
        ended = await client.inspect(unique_name)
        assert (ended.started, ended.running, ended.exit_code) == (True, False, 137)
        assert await client.containers(unique_name, ended=False) == []
        assert [each.name for each in await client.containers(unique_name)] == [unique_name]
        await client.remove(unique_name)
        await client.remove(unique_name)
        with pytest.raises(NoSuchContainerError):
            await client.inspect(unique_name)
    os.lseek(output, 0, os.SEEK_SET)
    assert {*os.read(output, 4096).split()} == {b"out", b"err"}
    os.close(output)


async def test_a_signal(client: Docker, unique_name: str) -> None:
    """Reference: DockerTest.ROOT_DOCKER_kill."""
    reader, writer = os.pipe()
    async with created(client, unique_name, "trap 'exit 3' USR1; echo ready; while :; do sleep 0.1; done"):
        attached = client.start_attached(unique_name, writer, writer)
        await readable(reader)
        await client.kill(unique_name, signal.SIGUSR1)
        await attached.converse()
        assert await attached.end() == 3
        assert (await client.inspect(unique_name)).exit_code == 3
    os.close(reader)
    os.close(writer)


async def test_variables_are_as_they_were_and_in_no_command_line(
    client: Docker, unique_name: str, run_directory: Path
) -> None:
    variables = {
        "PLAIN": "a b  c ",
        "HASH": "#x=y'\"$(id)\\n",
        "EMPTY": "",
        "LINES": "first\nsecond",
        "LONG": "x" * 70_000,
        "UMLAUT": "ä",
    }
    names = sorted(variables)
    script = "".join(f'printf "%s\\0" "${name}";' for name in names)
    output = os.open(run_directory / "output", os.O_RDWR | os.O_CREAT)
    async with created(client, unique_name, script, **variables):
        attached = client.start_attached(unique_name, output, output)
        await attached.converse()
        assert await attached.end() == 0
    values = (run_directory / "output").read_text().split("\0")
    assert dict(zip(names, values, strict=False)) == variables
    os.close(output)


async def test_variables_of_commands_are_in_no_command_line(
    client: Docker, unique_name: str, run_directory: Path
) -> None:
    program = run_directory / "docker"
    program.write_text(f'#!/bin/sh\necho "$*" >> {run_directory}/lines\nexec docker "$@"\n')
    program.chmod(0o755)
    seen = replace(client, program=str(program))
    output = os.open(os.devnull, os.O_WRONLY)
    async with created(seen, unique_name, "sleep 600", OF_ALL="hush"):
        since = time.time()
        started = client.start_attached(unique_name, output, output)
        await client.event(unique_name, "start", since)
        argv = ["sh", "-c", 'test "$OF_ALL-$OF_ONE" = hush-hushed']
        execution = seen.execute(unique_name, argv, {"OF_ONE": "hushed"}, stdout=output, stderr=output)
        await execution.converse()
        assert await execution.end() == 0
        await started.end()
    os.close(output)
    assert "=hush" not in (run_directory / "lines").read_text()


async def test_an_image_that_is_here_is_not_pulled(client: Docker) -> None:
    image = await client.pull(IMAGE)
    assert image.entrypoint is None
    assert image == await client.image(f"{IMAGE}:latest")
    assert await client.image("nonesuch") is None


async def test_an_image_that_is_nowhere(shared_docker: Daemon, tmp_path: Path) -> None:
    client = Docker(socket=str(shared_docker.socket))
    write_credentials(tmp_path, {"auths": {}})
    with pytest.raises(DockerError, match=r"docker pull failed: exit status 1: .*127\.0\.0\.1:1.*refused"):
        await client.pull("127.0.0.1:1/nonesuch", home=tmp_path)


async def test_what_docker_refuses_is_one_line(client: Docker) -> None:
    with pytest.raises(DockerError, match="docker create failed: exit status 125: unknown flag: --nonesuch") as caught:
        await client.create(["--nonesuch", IMAGE])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("word", "reason"), [("a\0b", "NUL character"), ("x" * 200_000, "too long; ask for less")])
async def test_what_no_process_can_be_told(client: Docker, word: str, reason: str) -> None:
    with pytest.raises(DockerError, match=reason):
        await client.create([IMAGE, word])


async def test_a_client_that_is_missing() -> None:
    with pytest.raises(DockerError, match=r"'/nonexistent' cannot be executed.*--docker"):
        await Docker("/nonexistent").version()


async def test_a_client_that_is_none() -> None:
    with pytest.raises(DockerError, match="no version"):
        await Docker("/bin/echo").version()


async def test_no_daemon(run_directory: Path) -> None:
    with pytest.raises(DockerError, match=r"docker ps failed: .*start the daemon at unix://.*/nobody"):
        await Docker(socket=str(run_directory / "nobody")).containers()


async def test_a_daemon_that_hangs_is_not_waited_for(hanging: Docker) -> None:
    with pytest.raises(DockerError, match=r"took longer than 0.5 s; look whether the daemon at unix:.* hangs"):
        await hanging.check()
    with pytest.raises(DockerError, match="docker inspect was killed"):
        await hanging.inspect("any")


async def test_a_call_ends_with_its_caller(hanging: Docker) -> None:
    """Reference: DockerTest.ROOT_DOCKER_CancelPull, ROOT_DOCKER_DockerInspectDiscard."""
    patient = Docker(socket=hanging.socket)
    pulling = asyncio.create_task(patient.pull(IMAGE, force=True))
    await asyncio.sleep(0)  # So that it has begun.
    assert _children()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert not _children()


def _children() -> list[str]:
    return [pid for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split() if _is_client(pid)]


def _is_client(pid: str) -> bool:
    """By its program: the command line of one that was executed just now is empty for a moment."""
    return Path("/proc", pid, "exe").readlink().name == "docker"


async def test_the_version(client: Docker) -> None:
    """Reference: DockerTest.ROOT_DOCKER_Version."""
    assert await client.version() >= (1, 8, 0)
