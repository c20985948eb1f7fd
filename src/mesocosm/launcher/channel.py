"""The containerizer's end of the channel to a container's init (see `messages`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from typing import Any

from mesocosm.launcher.messages import PEER, RELEASE, REPORT_SIZE, Kind, Report, Start, send_object
from mesocosm.linux import descriptors, process
from mesocosm.linux.poll import any_readable

_ATTEMPTS, _PAUSE = 500, 0.01


class Channel:
    """Reports of one init, as they come."""

    def __init__(self, ours: socket.socket) -> None:
        """Takes over the socket `ours`."""
        ours.setblocking(False)
        self._socket = ours
        self._terminal: int | None = None

    @classmethod
    def create(cls) -> tuple[Channel, socket.socket]:
        """A channel, and the end of it that is the init's, to be closed when that has it. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), theirs

    @classmethod
    async def take_over(cls, pidfd: int) -> Channel | None:
        """The channel of an init whose containerizer is gone; None if it was not released, or exits. Raises OSError.

        An init that was not released exits soon, as it sees the channel close. One that was, but has not got so far
        as to see it, has the other end soon. Of that there is no event, and it takes a moment at most.
        """
        for _ in range(_ATTEMPTS):
            try:
                taken = process.take_descriptor(pidfd, PEER)
            except OSError as error:
                if error.errno == errno.ESRCH:
                    return None
                if error.errno != errno.EBADF:
                    raise
            else:
                if stat.S_ISSOCK(os.fstat(taken).st_mode):
                    return cls(socket.socket(fileno=taken))
                os.close(taken)
            await asyncio.sleep(_PAUSE)
        return None

    def start(self, start: Start) -> None:
        """Tells the init what container it is for. Raises OSError."""
        self._socket.setblocking(True)  # An environment of megabytes does not fit into the socket at once.
        send_object(self._socket, start)
        self._socket.setblocking(False)

    def release(self, streams: Sequence[int], joins: Sequence[str], *, recoverable: bool) -> None:
        """Lets the init go on, into the cgroups of v1 that it `joins`, with `streams` for the command's 0, 1 and 2.

        It gets a copy of this end of the channel if it is `recoverable` by `take_over`. Raises OSError.
        """
        passed = [*streams, self._socket.fileno()] if recoverable else [*streams]
        with contextlib.ExitStack() as opened:
            for group in joins:
                passed.append(os.open(f"{group}/tasks", os.O_WRONLY | os.O_CLOEXEC))
                opened.callback(os.close, passed[-1])
            with contextlib.suppress(BrokenPipeError):  # It has failed by now, and reported why.
                descriptors.send(self._socket, RELEASE, passed)

    async def report(self, unless: Sequence[asyncio.Future[Any]] = ()) -> Report | None:
        """The next report; None if the init ended without one, or as soon as a future of `unless` is done.

        A report of the exit stays in the channel, for a successor.
        """
        woken = False
        while not any(future.done() for future in unless):
            try:
                data = self._socket.recv(REPORT_SIZE, socket.MSG_PEEK)
            except BlockingIOError:
                if woken and not any(future.done() for future in unless):
                    return None  # A container's root has played with the socket: it would be readable for ever.
                await any_readable((self._socket.fileno(),), unless)
                woken = True
                continue
            except ConnectionResetError:
                return None
            return self._accept(data)
        return None

    def _accept(self, data: bytes) -> Report | None:
        """The report, if it is one: the container's root could have sent anything. A socket never parts one."""
        try:
            report = Report.unpack(data)
        except ValueError:
            return None
        if report.kind is not Kind.EXITED:
            _, received = descriptors.receive(self._socket, REPORT_SIZE, 1)
            for descriptor in received:
                if self._terminal is None and report.kind is Kind.TERMINAL and _is_terminal(descriptor):
                    self._terminal = descriptor
                else:
                    os.close(descriptor)
        return report

    def take_terminal(self) -> int | None:
        """The master of the container's terminal, which then is the caller's; None without one, or if it was taken."""
        terminal, self._terminal = self._terminal, None
        return terminal

    def close(self) -> None:
        """Closes this end. An init that was not released exits."""
        self._socket.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None


def _is_terminal(descriptor: int) -> bool:
    """Whether it is what an init would send, and not what a root sends whose container the init has entered."""
    from mesocosm.linux.terminal import is_master  # Which most containers do without.

    return is_master(descriptor)
