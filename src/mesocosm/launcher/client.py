"""The containerizer's side of the warm launcher: starts it, and asks it for inits."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mesocosm.dataclass import dataclass
from mesocosm.errors import ContainerError
from mesocosm.launcher.base import Child, InitProcess
from mesocosm.launcher.channel import Channel
from mesocosm.launcher.info import Command, LaunchInfo
from mesocosm.launcher.messages import Start, send_object
from mesocosm.launcher.operations import Operation
from mesocosm.launcher.requests import REPLY, CloneRequest, Farewell, JanitorRequest, ProgramRequest
from mesocosm.launcher.spawn import spawn, spawn_with_programs
from mesocosm.linux import descriptors, process
from mesocosm.linux.namespaces import Namespace
from mesocosm.linux.poll import readable

_IDLE = 0.005
"""Seconds without a launch after which an init is cloned in advance: not while others still are being set up."""
_PATIENCE = 5.0
"""Seconds for the end of a process of its own that was told to, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class _Spare:
    """An init that was cloned in advance: the next container is likely to be like the last one."""

    namespaces: Namespace
    child: Child


class LauncherProcess:
    """The running launcher. It is started when it is first needed or by `start`, and again after it has died."""

    def __init__(
        self, janitor: Sequence[str] | None = None, *, spares: bool = True, with_programs: bool = False
    ) -> None:
        """With `janitor`, that command line is executed should this process end without `close`.

        With `spares`, an init is cloned in advance where there is time: who launches one container has no use for it.
        Containers whose command is a built-in program come from a second process, which is one `with_programs`.
        """
        self._janitor = tuple(janitor) if janitor is not None else None
        self._programs = None if with_programs else LauncherProcess(spares=spares, with_programs=True)
        self._control: socket.socket | None = None
        self._pid = 0
        self._waiting: collections.deque[asyncio.Future[InitProcess]] = collections.deque()
        self._buffer = bytearray()
        self._received: list[int] = []
        self._spares = spares
        self._spare: _Spare | None = None
        self._likely: LaunchInfo | None = None  # What the next container will be like.
        self._busy = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refill: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the launcher while it runs."""
        return self._pid if self._control is not None else None

    def start(self) -> None:
        """Starts the process, without waiting until it is ready. Raises OSError."""
        if self._control is not None and (self._waiting or not _hung_up(self._control)):
            return
        self._lost()
        self._pid, self._control = spawn_with_programs() if self._programs is None else spawn()
        if self._janitor is not None:
            send_object(self._control, JanitorRequest(self._janitor))

    def start_programs(self) -> None:
        """Starts the process of built-in programs, without waiting until it is ready. Raises OSError."""
        if self._programs is not None:
            self._programs.start()

    async def fork(
        self,
        info: LaunchInfo,
        *,
        parent: int | None = None,
        cgroup: int | None = None,
        status_file: Path | None = None,
    ) -> Child:
        """An init that sets up `info`, and waits to be released.

        `parent` is the pidfd of the init whose namespaces it enters, `cgroup` a directory of cgroup v2 to start in.
        Raises OSError for what failed in the launcher, ContainerError if that died.
        """
        if self._programs is not None and info.command is not None and info.command.program is not None:
            return await self._programs.fork(info, parent=parent, cgroup=cgroup, status_file=status_file)
        child = await self._take_spare(info.clone_namespaces) if parent is None and cgroup is None else None
        if child is None:
            child = await self._clone(info, parent, cgroup, ())
        try:
            if sys.platform == "linux":
                process.run_beside(child.init.pid)
            child.channel.start(Start(info, None if status_file is None else str(status_file)))
        except BaseException:
            child.discard()
            raise
        if parent is None and cgroup is None and sys.platform == "linux":
            self._likely = info
            self._refill_later()
        return child

    async def fork_program(self, command: Command, passed: Sequence[int]) -> InitProcess:
        """A built-in program in no container, which has copies of the descriptors `passed`. Raises OSError.

        ContainerError if the launcher died.
        """
        if self._programs is not None:
            return await self._programs.fork_program(command, passed)
        return await self._ask(ProgramRequest(command), passed)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Meanwhile, no init is cloned in advance: what is being made or taken apart has the processors."""
        self._busy += 1
        self._cancel_timer()
        try:
            with contextlib.nullcontext() if self._programs is None else self._programs.busy():
                yield
        finally:
            self._busy -= 1
            self._refill_later()

    async def close(self) -> None:
        """Ends the process, and what was cloned in advance, whose cgroup may be removed then. Containers go on."""
        if self._programs is not None:
            await self._programs.close()
        spare, control = self._spare, self._detach()
        if control is None:
            return
        with control:
            with contextlib.suppress(BrokenPipeError):
                send_object(control, Farewell())
            if spare is not None:
                await _end(spare.child)
            if not await _closed(control):
                os.kill(self._pid, signal.SIGKILL)  # Somebody has stopped it.
        self._reap()

    def forget(self) -> None:
        """In a fork's child, closes its copy of the socket: the parent still uses it, and its end must show."""
        if self._programs is not None:
            self._programs.forget()
        if self._control is not None:
            self._control.close()
            self._control = None

    async def _take_spare(self, namespaces: Namespace) -> Child | None:
        """The init that was cloned in advance, if it has these `namespaces`; one that is being cloned is awaited."""
        self._cancel_timer()
        if self._refill is not None:
            await asyncio.wait([self._refill])
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        if spare.namespaces == namespaces and not spare.child.init.has_exited():
            return spare.child
        spare.child.discard()
        return None

    def _refill_later(self) -> None:
        """Has an init cloned for a container like the last one, when there is nothing else to do."""
        self._cancel_timer()
        if self._spares and not self._busy and self._likely is not None and self._spare is None:
            self._timer = asyncio.get_running_loop().call_later(_IDLE, self._begin_refill, self._likely)

    def _begin_refill(self, info: LaunchInfo) -> None:
        self._timer = None
        if self._refill is None and self._spare is None:  # One may have been cloned since the timer was set.
            self._refill = asyncio.get_running_loop().create_task(self._make_spare(info))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _make_spare(self, info: LaunchInfo) -> None:
        # Nobody asked for it yet: what is wrong, the next launch will see.
        with contextlib.suppress(OSError, ContainerError):
            self._spare = _Spare(info.clone_namespaces, await self._clone(info, None, None, info.common))
        self._refill = None

    async def _clone(
        self, info: LaunchInfo, parent: int | None, cgroup: int | None, operations: Sequence[Operation]
    ) -> Child:
        """Asks the launcher for an init with the namespaces of `info`."""
        request = CloneRequest(
            clone_namespaces=info.clone_namespaces,
            enter_namespaces=Namespace.NONE if parent is None else info.enter_namespaces,
            into_cgroup=cgroup is not None,
            operations=tuple(operations),
        )
        channel, theirs = Channel.create()
        try:
            with theirs:
                passed = [descriptor for descriptor in (theirs.fileno(), parent, cgroup) if descriptor is not None]
                return Child(await self._ask(request, passed), channel)
        except BaseException:
            channel.close()
            raise

    async def _ask(self, request: CloneRequest | ProgramRequest, passed: Sequence[int]) -> InitProcess:
        """The process that the launcher answers with."""
        self.start()
        assert self._control is not None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[InitProcess] = loop.create_future()
        try:
            send_object(self._control, request, passed)
        except BrokenPipeError:
            self._lost()
            raise
        # Not before: what was not sent is not answered, and the answers come in the order of the requests.
        if not self._waiting:
            loop.add_reader(self._control.fileno(), self._read)
        self._waiting.append(answer)
        try:
            return await answer
        except BaseException:
            answer.add_done_callback(_abandon)
            raise

    def _read(self) -> None:
        """Takes the answers that have come; one may come in parts."""
        assert self._control is not None
        try:
            data, received = descriptors.receive(self._control, 65536, 8)
        except ConnectionResetError:  # It died with a request unread.
            data, received = b"", []
        if not data:
            self._lost()
            return
        self._buffer += data
        self._received += received
        while len(self._buffer) >= REPLY.size:
            pid, code, length = REPLY.unpack_from(self._buffer)
            if len(self._buffer) < REPLY.size + length:
                break
            text = bytes(self._buffer[REPLY.size : REPLY.size + length]).decode()
            del self._buffer[: REPLY.size + length]
            self._answer(pid, code, text)

    def _answer(self, pid: int, code: int, text: str) -> None:
        answer = self._waiting.popleft()
        if code:
            _settle(answer, OSError(code, text))
        elif sys.platform == "linux" and not self._received:
            _settle(answer, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))  # The kernel dropped the pidfd.
        else:
            pidfd = self._received.pop(0) if sys.platform == "linux" else -1
            try:
                _settle(answer, InitProcess.of_child(pid, pidfd))
            except OSError as error:
                _settle(answer, error)
        if not self._waiting and self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())

    def _lost(self) -> None:
        """Forgets the process, which has died; the next fork starts another."""
        spare, control = self._spare, self._detach()
        if control is None:
            return
        control.close()
        if spare is not None:
            spare.child.discard()
        self._reap()

    def _detach(self) -> socket.socket | None:
        """Expects nothing from the process any more. Its socket is the caller's, and so is a spare init."""
        control, self._control = self._control, None
        if control is None:
            return None
        if self._waiting:
            asyncio.get_running_loop().remove_reader(control.fileno())
        self._likely = self._spare = None
        self._cancel_timer()
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
        for descriptor in self._received:
            os.close(descriptor)
        self._received.clear()
        self._buffer.clear()
        while self._waiting:
            _settle(self._waiting.popleft(), ContainerError("the launcher process died while it forked the container"))
        return control

    def _reap(self) -> None:
        """Has no zombie left of the process, whose end of the socket was closed by its exit."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


async def _end(child: Child) -> None:
    """Kills an init, and returns when it has ended."""
    child.init.send_signal(signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await child.init.exited()
    child.discard()


async def _closed(control: socket.socket) -> bool:
    """Returns when the other end of the socket is closed, or the patience at its end: whether it is."""
    control.setblocking(False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while _receive(control):
                await readable(control.fileno())
            return True
    return False


def _receive(control: socket.socket) -> bool:
    """Takes what nobody waits for any more; False if there will not be anything."""
    try:
        while True:
            data, received = descriptors.receive(control, 65536, 8)
            for descriptor in received:
                os.close(descriptor)
            if not data:
                return False
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def _hung_up(control: socket.socket) -> bool:
    """Whether the process at the other end is gone."""
    poll = select.poll()
    poll.register(control, 0)
    return bool(poll.poll(0))


def _settle(answer: asyncio.Future[InitProcess], result: InitProcess | Exception) -> None:
    """Sets the result. A child that nobody waits for any more sees its channel close, and exits by itself."""
    if answer.done():
        if isinstance(result, InitProcess):
            result.close()
    elif isinstance(result, InitProcess):
        answer.set_result(result)
    else:
        answer.set_exception(result)


def _abandon(answer: asyncio.Future[InitProcess]) -> None:
    """Closes the init of an answer that came too late."""
    if not answer.cancelled() and answer.exception() is None:
        answer.result().close()
