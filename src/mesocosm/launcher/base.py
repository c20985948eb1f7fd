"""The interface of a launcher, and the process it launches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mesocosm.container import ContainerID
from mesocosm.dataclass import dataclass
from mesocosm.launcher.channel import Channel
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import process


class InitProcess:
    """A container's init, named by a pidfd: signals and waits never meet another process that got its pid."""

    def __init__(self, pid: int, descriptor: int, started: int | None) -> None:
        """`descriptor` becomes readable at the exit (a pidfd, or a kqueue on macOS), and is closed by `close`."""
        self.pid = pid
        self.descriptor = descriptor
        self.started = started
        self._exited: asyncio.Future[None] | None = None

    @classmethod
    def of_child(cls, pid: int, pidfd: int) -> InitProcess:
        """The init that was just forked as `pid`, and cannot have been replaced."""
        if pidfd == -1:
            pidfd = _watch_by_kqueue(pid)
        try:
            return cls(pid, pidfd, started_at(pid))
        except OSError:
            os.close(pidfd)
            raise

    @classmethod
    def find(cls, pid: int, started: int | None) -> InitProcess | None:
        """The process that had `pid` and started at `started`, if it is still there."""
        if started is None:
            return None
        if sys.platform == "linux":
            pidfd = process.open_same(pid, started)
            return None if pidfd is None else cls(pid, pidfd, started)
        try:
            descriptor = _watch_by_kqueue(pid)
        except ProcessLookupError:
            return None
        found = cls(pid, descriptor, started)
        if started_at(pid) == started:
            return found
        found.close()
        return None

    def send_signal(self, number: int) -> bool:
        """Sends a signal; False if the process has exited. Raises OSError."""
        if sys.platform == "linux":
            return process.send_signal(self.descriptor, number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def has_exited(self) -> bool:
        """Whether the process has exited by now."""
        return _polled(self.descriptor)

    async def exited(self) -> None:
        """Returns when the process has exited."""
        loop = asyncio.get_running_loop()
        if self._exited is None:
            self._exited = loop.create_future()
            loop.add_reader(self.descriptor, self._on_exit, loop)
        await asyncio.shield(self._exited)

    def _on_exit(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.descriptor)
        if self._exited is not None and not self._exited.done():
            self._exited.set_result(None)

    def close(self) -> None:
        """Gives the descriptor back. Whoever waits for the exit is cancelled."""
        if self.descriptor == -1:
            return
        if self._exited is not None and not self._exited.done():
            self._exited.get_loop().remove_reader(self.descriptor)
            self._exited.cancel()
        os.close(self.descriptor)
        self.descriptor = -1


@dataclass(frozen=True, slots=True)
class Child:
    """A container's init that waits to be released, the channel to it, and the cgroups of v1 that it is to enter."""

    init: InitProcess
    channel: Channel
    joins: tuple[str, ...] = ()

    def discard(self) -> None:
        """Lets it go: it exits by itself when its channel closes."""
        self.channel.close()
        self.init.close()


class Launcher(Protocol):
    """Forks, finds and kills the processes of containers."""

    name: str
    records_status: bool
    """Whether the init records the exit status itself, and not the containerizer by the container's channel."""

    def start(self) -> None:
        """Begins to start the warm process, so that it is ready when it is needed. Raises OSError."""

    async def recover(self, inits: Mapping[ContainerID, int | None]) -> set[ContainerID]:
        """Takes note of the containers on record, with the pids of their inits, as far as those mean anything.

        Returns others that have processes or traces of them.
        """

    async def fork(
        self,
        container_id: ContainerID,
        info: LaunchInfo,
        parent: InitProcess | None,
        status_file: Path,
    ) -> Child:
        """An init that sets up the container, and waits to be released.

        Raises OSError or ContainerError, and leaves nothing then.
        """

    async def destroy(self, container_id: ContainerID, init: InitProcess | None, *, has_pid_namespace: bool) -> None:
        """Ends every process of the container, in which no other is nested any more.

        Without `init`, that of a recovered one is gone already. Raises OSError, and can be repeated.
        """

    async def close(self) -> None:
        """Ends the warm process. Containers go on."""


def _polled(descriptor: int) -> bool:
    poll = select.poll()  # Not select(2), which knows no descriptor above 1023.
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def started_at(pid: int) -> int | None:
    """When a process started, in a unit of the system's own; None if there is none."""
    if sys.platform == "linux":
        return process.start_time(pid)
    import psutil

    try:
        return int(psutil.Process(pid).create_time() * 1000)
    except psutil.NoSuchProcess:
        return None


def _watch_by_kqueue(pid: int) -> int:
    """A descriptor that is readable once the process has exited, where there are no pidfds (kqueue(2))."""
    queue = select.kqueue()  # type: ignore[attr-defined, unused-ignore]
    event = select.kevent(  # type: ignore[attr-defined, unused-ignore]
        pid,
        filter=select.KQ_FILTER_PROC,  # type: ignore[attr-defined, unused-ignore]
        flags=select.KQ_EV_ADD,  # type: ignore[attr-defined, unused-ignore]
        fflags=select.KQ_NOTE_EXIT,  # type: ignore[attr-defined, unused-ignore]
    )
    try:
        queue.control([event], 0)
        return os.dup(queue.fileno())
    finally:
        queue.close()
