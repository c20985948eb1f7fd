"""Programs of others: executed beside the event loop, and ended with all that they have started."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesocosm.linux.poll import readable

MOST_OUTPUT = 1 << 20
"""Of what a program prints, so many bytes are kept if nobody asks for more."""
_CHUNK = 65536
_LONGEST = 400
"""Characters of an error that are shown."""
_CLOSED = -1


@dataclass(slots=True)
class Execution:
    """A program that runs in a session of its own, and the beginning of what it has printed.

    It is not waited for but by its pidfd, so its pid, and that of its group, is its own until all of it was killed.
    """

    pid: int
    output: bytearray
    errors: bytearray
    most: int
    _process: subprocess.Popen[bytes]
    _pidfd: int
    _pipes: tuple[int, int, int]

    @classmethod
    def start(
        cls,
        argv: Sequence[str | os.PathLike[str]],
        environment: Mapping[str, str],
        *,
        stdout: int | None = None,
        stderr: int | None = None,
        inherited: Sequence[int] = (),
        most: int = MOST_OUTPUT,
    ) -> Execution:
        """Executes it with three pipes and, but what is `inherited`, nothing else of this process.

        What it prints may go elsewhere instead, where it is not read.

        Raises OSError.
        """
        given = (None, stdout, stderr)
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            streams, pipes = [], []
            for number, descriptor in enumerate(given):
                if descriptor is None:
                    reader, writer = os.pipe2(os.O_CLOEXEC)
                    own, descriptor = (reader, writer) if number else (writer, reader)
                    theirs.callback(os.close, descriptor)
                    ours.callback(os.close, own)
                else:
                    own = _CLOSED
                streams.append(descriptor)
                pipes.append(own)
            child = subprocess.Popen(
                list(argv),
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                env=dict(environment),
                cwd="/",
                pass_fds=inherited,
                start_new_session=True,
            )
            try:
                pidfd = os.pidfd_open(child.pid)
            except BaseException:
                child.kill()
                child.wait()
                raise
            ours.pop_all()
        return cls(child.pid, bytearray(), bytearray(), most, child, pidfd, (pipes[0], pipes[1], pipes[2]))

    async def converse(self, request: bytes = b"") -> None:
        """Tells it the request, and reads all that it prints until it has ended. Raises OSError."""
        told, printed, complained = self._pipes
        if len(request) > _CHUNK:
            fcntl.fcntl(told, fcntl.F_SETPIPE_SZ, len(request))  # So that it can be written at once.
        with contextlib.suppress(BrokenPipeError):  # Not every program wants to know.
            os.write(told, request)
        os.close(told)
        self._pipes = (_CLOSED, printed, complained)
        streams = [(pipe, data) for pipe, data in ((printed, self.output), (complained, self.errors)) if pipe >= 0]
        reading = [asyncio.ensure_future(self._read(pipe, data)) for pipe, data in streams]
        try:
            await readable(self._pidfd)
        finally:
            for task in reading:
                task.cancel()
            if reading:
                await asyncio.wait(reading)
        for pipe, data in streams:
            self._read_rest(pipe, data)

    async def end(self) -> int:
        """Kills it with what it has started, as far as that has not ended, and returns its status."""
        # Its pid is not free before it was waited for.
        kill_group(self.pid)
        try:
            await readable(self._pidfd)
        finally:
            status = self._process.wait()
            self._close()
        return status

    def _close(self) -> None:
        for descriptor in (self._pidfd, *self._pipes):
            if descriptor >= 0:
                os.close(descriptor)

    async def _read(self, pipe: int, data: bytearray) -> None:
        while True:
            await readable(pipe)
            if not self._take(os.read(pipe, _CHUNK), data):
                return

    def _read_rest(self, pipe: int, data: bytearray) -> None:
        """Takes what is in a pipe, whose other end a process may keep that the program has started."""
        os.set_blocking(pipe, False)
        with contextlib.suppress(BlockingIOError):
            while len(data) <= self.most and self._take(os.read(pipe, _CHUNK), data):
                pass

    def _take(self, part: bytes, data: bytearray) -> bool:
        if len(data) <= self.most:
            data += part
        return bool(part)


def kill_group(pid: int) -> None:
    """Ends a process group; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def how_ended(status: int, text: bytes | bytearray) -> str:
    """The status of an `Execution`, and what it has printed, in one line."""
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    line = one_line(text.decode(errors="replace"))
    return f"{ended}: {line}" if line else ended


def one_line(text: str) -> str:
    """Any text as one line that can be shown, cut where it is long."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
