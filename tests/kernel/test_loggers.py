"""Rotated logs of real containers: what is kept, by whom it is written, and what outlives what."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.containerizer.base import ContainerIO
from mesocosm.errors import ContainerError
from mesocosm.loggers.logrotate import LogrotateContainerLogger, Rotation
from mesocosm.loggers.rotator import REPLY, REQUEST
from tests.kernel import logging_agent
from tests.launching import LINUX, TIMEOUT, Command, Launch, Started, command_of
from tests.rotating import ended, rotator, rotators

pytestmark = pytest.mark.kernel

LIMIT = 8192
NOBODY = 65534
ROTATION = Rotation(LIMIT, LIMIT, 2, 3)
LINES = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i + 1)); done"
EXPECTED = "".join(f"line {number}\n" for number in range(5000))


class Logging:
    """Launches containers with rotated logs. The logger has a runtime directory of its own, next to the others."""

    def __init__(self, launch: Launch, directory: Path) -> None:
        self.launch = launch
        self.directory = directory
        self.logger = self.make()

    def make(self, rotation: Rotation = ROTATION) -> LogrotateContainerLogger:
        self.logger = LogrotateContainerLogger(self.directory, rotation)
        return self.logger

    async def prepared(self, name: str, parent: Started | None = None, **config: Any) -> ContainerIO:
        container_id = ContainerID(name, None if parent is None else parent.container_id)
        wanted = ContainerConfig(command_of("true"), **config)
        preparing = self.logger.prepare(container_id, wanted, self.launch.sandbox(container_id))
        return await asyncio.wait_for(preparing, TIMEOUT)

    async def __call__(self, command: Command, name: str = "x", stdin: int | None = None, **options: Any) -> Started:
        """Launches a container, whose `stderr` may be a descriptor of the test's own."""
        config = {key: value for key, value in options.items() if key not in ("isolation", "stderr")}
        stderr = options.pop("stderr", None)
        io = await self.prepared(name, **config)
        try:
            return await self.launch(
                command, name=name, io=replace(io, stdin=stdin, stderr=stderr or io.stderr), **options
            )
        finally:
            close(io)

    async def finish(self) -> None:
        """Returns when all that containers have written is in their files, as the process has ended."""
        pids = rotators(self.directory)
        await self.logger.close()
        for pid in pids:
            await ended(pid)


def close(io: ContainerIO) -> None:
    for descriptor in (io.stdout, io.stderr):
        assert descriptor is not None
        os.close(descriptor)


def files(sandbox: Path, name: str = "stdout") -> list[Path]:
    """The log and the older ones, the oldest first."""
    return sorted(sandbox.glob(f"{name}*"), key=lambda path: -int(path.suffix[1:] or 0))


def text(sandbox: Path, name: str = "stdout") -> str:
    return "".join(path.read_text() for path in files(sandbox, name))


@pytest.fixture
async def rotated(launch: Launch, run_directory: Path) -> AsyncIterator[Logging]:
    """Containers with rotated logs; nothing of them is left at the end."""
    logging = Logging(launch, run_directory / "logger")
    yield logging
    await launch.close()
    await logging.finish()
    launch._containerizer = None
    assert rotators(logging.directory) == []


@pytest.mark.parametrize("isolation", ["filesystem/posix", LINUX])
async def test_rotated_in_the_sandbox(rotated: Logging, isolation: str) -> None:
    container = await rotated(f"({LINES}) >&2; {LINES}; pwd", isolation=isolation)
    assert await container.wait() == 0
    await rotated.finish()
    for name, count in (("stdout", 2), ("stderr", 3)):
        found = files(container.sandbox, name)
        assert [path.name for path in found] == [*(f"{name}.{number}" for number in range(count, 0, -1)), name]
        assert all(path.stat().st_size <= LIMIT for path in found)
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in found)
    assert EXPECTED.endswith(text(container.sandbox, "stderr"))
    assert (EXPECTED + f"{container.sandbox}\n").endswith(text(container.sandbox))
    assert not (rotated.directory / "logger.sock").exists()


async def test_without_rotation_nothing_is_lost(rotated: Logging) -> None:
    rotated.make(Rotation())
    container = await rotated(f"{LINES}; echo error >&2")
    assert await container.wait() == 0
    await rotated.finish()
    assert container.stream() == EXPECTED
    assert container.stream("stderr") == "error\n"
    assert {path.name for path in container.sandbox.iterdir()} == {"stdout", "stderr"}


async def test_a_container_may_choose(rotated: Logging) -> None:
    environment = {"CONTAINER_LOGGER_STDOUT_COUNT": "100", "CONTAINER_LOGGER_MAX_STDOUT_SIZE": "4KB"}
    container = await rotated(LINES, environment=environment)
    assert await container.wait() == 0
    await rotated.finish()
    assert text(container.sandbox) == EXPECTED
    assert len(files(container.sandbox)) == -(-len(EXPECTED) // 4096)


async def test_one_process_for_all(rotated: Logging) -> None:
    await rotated.logger.recover([])
    pid = rotator(rotated.directory)
    containers = [await rotated(f"echo {name}; {LINES}", name=name) for name in ("a", "b", "c")]
    for container in containers:
        assert await container.wait() == 0
    assert rotator(rotated.directory) == pid
    assert Path(f"/proc/{pid}/comm").read_text() == "mesocosm-logger\n"
    await rotated.finish()
    for container in containers:
        assert EXPECTED.endswith(text(container.sandbox))


async def test_nothing_is_kept_of_a_container_that_has_ended(rotated: Logging) -> None:
    await rotated.logger.recover([])
    pid = rotator(rotated.directory)
    refused = rotated.launch.sandbox(ContainerID("refused"))
    (refused / "stdout").mkdir(parents=True)

    async def held() -> int:
        """After two requests that leave nothing themselves: each is served after what came before it."""
        for _ in range(2):
            with pytest.raises(ContainerError, match="Is a directory"):
                await rotated.prepared("refused")
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    before = await held()
    for number in range(5):
        container = await rotated("echo x", name=f"x{number}")
        assert await container.wait() == 0
    assert await held() == before


async def test_a_nested_container(rotated: Logging) -> None:
    parent = await rotated.launch.sleeping(name="parent")
    child = await rotated(LINES, name="child", parent=parent)
    assert await child.wait() == 0
    await rotated.finish()
    assert child.sandbox == parent.sandbox / "containers" / "child"
    assert EXPECTED.endswith(text(child.sandbox))
    assert len(files(child.sandbox)) == 3
    parent.say("end")
    assert await parent.wait() == 0


# Whose files they are.


async def test_they_belong_to_the_user_of_the_container(rotated: Logging, rootfs: Path) -> None:
    container = await rotated(f"{LINES}; echo by path > /dev/stdout; id -u", user=f"{NOBODY}:{NOBODY}", rootfs=rootfs)
    assert await container.wait() == 0
    await rotated.finish()
    assert text(container.sandbox).endswith(f"by path\n{NOBODY}\n")
    for path in container.sandbox.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


async def test_they_are_written_with_the_rights_of_that_user(rotated: Logging, run_directory: Path) -> None:
    victim = run_directory / "victim"
    victim.write_text("precious")
    sandbox = rotated.launch.sandbox(ContainerID("x"))
    sandbox.mkdir(parents=True)
    os.chown(sandbox, NOBODY, NOBODY)
    (sandbox / "stdout").hardlink_to(victim)
    with pytest.raises(ContainerError, match=r"x: the logs in .* cannot be written: Permission denied"):
        await rotated.prepared("x", user=str(NOBODY))
    assert victim.read_text() == "precious"
    assert victim.stat().st_uid == 0


@pytest.mark.parametrize("user", ["0", str(NOBODY)])
async def test_links_that_a_container_leaves(rotated: Logging, run_directory: Path, user: str) -> None:
    victim = run_directory / "victim"
    victim.write_text("precious")
    victim.chmod(0o666)
    links = "".join(f"ln -s {victim} {name}; " for name in ("stdout.1", "stdout.2", "stdout"))
    container = await rotated(f"rm stdout; {links} {LINES}", user=user)
    assert await container.wait() == 0
    await rotated.finish()
    assert victim.read_text() == "precious"
    assert not any(path.is_symlink() for path in files(container.sandbox))
    assert EXPECTED.endswith(text(container.sandbox))


async def test_a_directory_in_the_way(rotated: Logging) -> None:
    container = await rotated(f"mkdir -p stdout.1/full; {LINES}")
    assert await container.wait() == 0, "it is not held up"
    await rotated.finish()
    assert (container.sandbox / "stdout").stat().st_size <= LIMIT
    assert EXPECTED.endswith(container.stream())


async def test_a_container_that_reads_its_own_pipe(rotated: Logging) -> None:
    """What it takes is gone, but nobody waits for it."""
    hostile = await rotated(f"cat /proc/$$/fd/1 > /dev/null & {LINES}; {LINES}", name="hostile")
    other = await rotated(LINES, name="other")
    assert await other.wait() == 0
    assert await hostile.wait() == 0
    await rotated.finish()
    assert EXPECTED.endswith(text(other.sandbox))


async def test_others_may_not_speak_to_the_process(rotated: Logging) -> None:
    await rotated.logger.recover([])
    path = rotated.directory / "logger.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.settimeout(TIMEOUT)
        os.seteuid(NOBODY)
        try:
            stranger.connect(str(path))
        finally:
            os.seteuid(0)
        assert await asyncio.to_thread(stranger.recv, 1) == b""
    container = await rotated("echo still")
    assert await container.wait() == 0
    await rotated.finish()
    assert container.stream() == "still\n"


# What ends, and what goes on.


async def test_the_agent_is_killed(rotated: Logging) -> None:
    launch = rotated.launch
    launch.flags = replace(launch.flags, isolation=LINUX)
    values = json.dumps(dataclasses.asdict(launch.flags), default=str)
    command = f"mkfifo go; {LINES}; read -r line < go; {LINES}"
    line = [sys.executable, logging_agent.__file__, values, str(rotated.directory), command]
    agent = await asyncio.create_subprocess_exec(*line, stdout=subprocess.PIPE, start_new_session=True)
    assert agent.stdout
    assert await asyncio.wait_for(agent.stdout.readline(), TIMEOUT) == b"launched\n"
    pid = rotator(rotated.directory)
    os.killpg(agent.pid, signal.SIGKILL)
    assert await agent.wait() == -signal.SIGKILL
    containerizer = await launch.successor(isolation=LINUX)
    assert [str(container_id) for container_id in await containerizer.containers()] == ["x"]
    await rotated.logger.recover(await containerizer.containers())
    assert rotator(rotated.directory) == pid, "it is found again"
    other = await rotated(LINES, name="other")
    assert await other.wait() == 0
    sandbox = launch.sandbox(ContainerID("x"))
    go = os.open(sandbox / "go", os.O_RDWR)
    os.write(go, b"on\n")
    assert (await asyncio.wait_for(containerizer.wait(ContainerID("x")), TIMEOUT)).exit_status == 0
    os.close(go)
    await rotated.finish()
    assert text(sandbox) == EXPECTED * 2
    assert all(path.stat().st_size <= LIMIT for path in files(sandbox))
    assert EXPECTED.endswith(text(other.sandbox))


async def test_it_ends_with_the_last_output_when_no_agent_is_there(rotated: Logging) -> None:
    ours, theirs = os.pipe()
    container = await rotated(f"read -r line; {LINES}", stdin=ours)
    os.close(ours)
    pid = rotator(rotated.directory)
    await rotated.logger.close()
    os.write(theirs, b"go\n")
    os.close(theirs)
    assert await container.wait() == 0
    await ended(pid)
    assert EXPECTED.endswith(text(container.sandbox))


async def test_the_process_is_killed(rotated: Logging) -> None:
    container = await rotated(["yes"])
    pid = rotator(rotated.directory)
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    assert await container.wait() == 128 + signal.SIGPIPE, "it is not held up"
    following = await rotated("echo next", name="next")
    assert await following.wait() == 0
    assert rotator(rotated.directory) != pid
    await rotated.finish()
    assert following.stream() == "next\n"


async def test_the_process_is_killed_and_then_the_agent_starts(rotated: Logging) -> None:
    await rotated.logger.recover([])
    pid = rotator(rotated.directory)
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    assert (rotated.directory / "logger.sock").exists()
    await rotated.make().recover([])
    assert rotator(rotated.directory) != pid


async def test_a_process_of_another_version(rotated: Logging) -> None:
    """It is left to what it does, and another one is started."""
    rotated.directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(rotated.directory / "logger.sock"))
        listener.listen()
        listener.settimeout(TIMEOUT)

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(REQUEST.size)
                connection.send(REPLY.pack(errno.EPROTO))

        thread = threading.Thread(target=refuse)
        thread.start()
        container = await rotated("echo new")
        thread.join()
    assert await container.wait() == 0
    await rotated.finish()
    assert container.stream() == "new\n"


async def test_a_process_that_does_not_answer(rotated: Logging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesocosm.loggers.client._PATIENCE", 0.1)
    await rotated.logger.recover([])
    pid = rotator(rotated.directory)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ContainerError, match="has not answered for"):
        await rotated.prepared("x")
    os.kill(pid, signal.SIGCONT)
    await ended(pid)


@pytest.fixture
def small_disk(run_directory: Path) -> Iterator[Path]:
    directory = run_directory / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


async def test_a_full_disk_does_not_hold_up_the_container(
    small_disk: Path, rotated: Logging, pipes: Callable[[], tuple[int, int]]
) -> None:
    rotated.launch.flags = replace(rotated.launch.flags, work_dir=small_disk / "work")
    rotated.make(Rotation())
    filler = small_disk / "filler"
    filler.write_bytes(bytes(200 << 10))
    stdin, go = pipes()
    ready, stderr = pipes()
    container = await rotated(f"{LINES}; {LINES}; echo done >&2; read -r line; echo after", stdin=stdin, stderr=stderr)
    assert await asyncio.to_thread(os.read, ready, 10) == b"done\n"
    filler.unlink()
    os.write(go, b"go\n")
    assert await container.wait() == 0
    await rotated.finish()
    output = container.stream()
    assert output.count("bytes of output could not be written: No space left on device]") == 1
    assert output.endswith("after\n")
    assert output.startswith(EXPECTED[:4096])


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[int, int]]]:
    opened: list[int] = []

    def make() -> tuple[int, int]:
        opened.extend(ends := os.pipe())
        return ends

    yield make
    for descriptor in opened:
        os.close(descriptor)
