"""Containers for tests: started by a shell command, spoken to by pipes, and taken apart at the end of the test."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ContainerStatus, Termination
from mesocosm.containerizer.base import ContainerIO, LaunchResult
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.flags import Flags
from mesocosm.linux.poll import readable

LINUX = "filesystem/linux,namespaces/pid,namespaces/ipc"
TIMEOUT = 20.0
"""How long a test waits for anything, in seconds: also under emulation it never should take as long."""

Command = str | Sequence[str] | CommandInfo


def command_of(command: Command) -> CommandInfo:
    """A script for the shell, or the words of a command."""
    if isinstance(command, CommandInfo):
        return command
    return CommandInfo(command) if isinstance(command, str) else CommandInfo.of(tuple(command))


class Started:
    """A container that was launched. With pipes, `say` writes to its input and `line` reads of its output."""

    def __init__(self, containerizer: MesosContainerizer, container_id: ContainerID, sandbox: Path) -> None:
        self.containerizer = containerizer
        self.container_id = container_id
        self.sandbox = sandbox
        self.stdin = self.stdout = -1
        self._unread = b""

    async def termination(self) -> Termination:
        """How it ended, when it has."""
        return await asyncio.wait_for(self.containerizer.wait(self.container_id), TIMEOUT)

    async def wait(self) -> int | None:
        """The exit status as a shell has it, when it has ended."""
        return (await self.termination()).exit_status

    async def destroy(self) -> Termination | None:
        return await asyncio.wait_for(self.containerizer.destroy(self.container_id), TIMEOUT)

    async def status(self) -> ContainerStatus:
        return await self.containerizer.status(self.container_id)

    async def pid(self) -> int:
        """Its init, as the host knows it."""
        pid = (await self.status()).executor_pid
        assert pid is not None
        return pid

    def stream(self, name: str = "stdout") -> str:
        """What it has written to a file of its sandbox up to now."""
        return (self.sandbox / name).read_text()

    def say(self, line: str) -> None:
        os.write(self.stdin, f"{line}\n".encode())

    async def line(self) -> str:
        """The next line of its output, without the end; what there is if the output ends."""
        while b"\n" not in self._unread:
            await asyncio.wait_for(readable(self.stdout), TIMEOUT)
            if not (data := os.read(self.stdout, 65536)):
                break
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        """Closes the pipes, which ends a container that reads."""
        for descriptor in (self.stdin, self.stdout):
            if descriptor != -1:
                os.close(descriptor)
        self.stdin = self.stdout = -1


class Launch:
    """Launches containers in one containerizer, which the first launch starts with the isolators it names."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self._containerizer: MesosContainerizer | None = None
        self._started: list[Started] = []
        self._count = 0

    def containerizer(self, isolation: str = LINUX, **flags: Any) -> MesosContainerizer:
        """The containerizer of the test."""
        if self._containerizer is None:
            self.flags = replace(self.flags, isolation=isolation, **flags)
            self._containerizer = MesosContainerizer(self.flags)
            self._containerizer.start()
        return self._containerizer

    async def successor(self, *, recover: bool = True, **flags: Any) -> MesosContainerizer:
        """A containerizer with the same directories, after the first has let go of its containers."""
        if self._containerizer is not None:
            await self._containerizer.close()
        self._containerizer = MesosContainerizer(replace(self.flags, **flags))
        self._containerizer.start()
        if recover:
            await asyncio.wait_for(self._containerizer.recover(), TIMEOUT)
        return self._containerizer

    async def __call__(
        self,
        command: Command,
        *,
        isolation: str = LINUX,
        name: str | None = None,
        parent: Started | None = None,
        io: ContainerIO | None = None,
        **config: Any,
    ) -> Started:
        """Launches a container whose output goes to its sandbox."""
        self._count += 1
        container_id = ContainerID(name or f"c{self._count}", None if parent is None else parent.container_id)
        containerizer = self.containerizer(isolation)
        started = Started(containerizer, container_id, self.sandbox(container_id))
        launch = containerizer.launch(container_id, ContainerConfig(command_of(command), **config), io)
        assert await asyncio.wait_for(launch, TIMEOUT) is LaunchResult.SUCCESS
        return started

    async def talking(self, command: Command, **options: Any) -> Started:
        """Launches a container with pipes for its input and output."""
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        try:
            started = await self(command, io=ContainerIO(stdin=theirs_in, stdout=theirs_out), **options)
        except BaseException:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        started.stdin, started.stdout = ours_in, ours_out
        self._started.append(started)
        return started

    async def sleeping(self, **options: Any) -> Started:
        """Launches a container that runs until it is ended."""
        started = await self.talking("echo up; read -r end", **options)
        assert await started.line() == "up"
        return started

    async def output(self, command: Command, **options: Any) -> str:
        """What a container that succeeds writes, without the end of the last line."""
        started = await self(command, **options)
        status = await started.wait()
        assert status == 0, f"exit status {status}: {started.stream('stderr')}{started.stream()}"
        return started.stream().removesuffix("\n")

    def sandbox(self, container_id: ContainerID) -> Path:
        return self.flags.work_dir / "containers" / container_id.join("containers")

    async def close(self) -> None:
        """Destroys all containers and removes what is kept of their ends."""
        for started in self._started:
            started.close()
        if self._containerizer is not None:
            await asyncio.wait_for(self._containerizer.__aexit__(None, None, None), TIMEOUT)
            records = {
                path.name.removesuffix(".new") for path in self.flags.runtime_dir.rglob("*") if not path.is_dir()
            }
            shutil.rmtree(self.flags.runtime_dir)
            assert records <= {"config", "status"}, "only the record of its end is kept of a container"


@pytest.fixture
async def launch(flags: Flags) -> AsyncIterator[Launch]:
    """Launches containers; see `Launch`."""
    launching = Launch(flags)
    yield launching
    await launching.close()
