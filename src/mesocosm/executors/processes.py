"""The processes that an executor starts: their start, their end, and the tree of what they have started in turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mesocosm.launcher.execution import FileAction, spawn
from mesocosm.launcher.info import Command
from mesocosm.launcher.step import Failure

_PROC = Path("/proc")


TO_STDERR: Sequence[FileAction] = (
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_DUP2, 2, 1),
)
"""No input, and all output to the executor's stderr."""


class Children:
    """Starts processes, and reaps them in the running event loop."""

    def __init__(self) -> None:
        self._running: dict[int, asyncio.Future[int]] = {}

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def start(
        self, command: Command, environment: Mapping[str, str], streams: Sequence[FileAction] = ()
    ) -> tuple[int, asyncio.Future[int]]:
        """The pid of a new process, which leads a session, and its status of wait(2), when it has ended.

        Raises OSError where it cannot be executed.
        """
        try:
            pid = spawn(command, environment, streams, session=True)
        except Failure as failure:
            code = failure.report.value
            raise OSError(code, os.strerror(code), command.executable) from failure
        ended = self._running[pid] = asyncio.get_running_loop().create_future()
        return pid, ended

    def _reap(self) -> None:
        for pid in list(self._running):  # And no other, which somebody else has started and waits for.
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                ended = self._running.pop(pid)
                if not ended.done():
                    ended.set_result(status)


def signal_tree(leader: int, number: int) -> None:
    """Sends a signal to a process that leads a session, and to all that it has started, as far as that can be seen.

    They are stopped first, so that none escapes by forking meanwhile.
    """
    stopped: dict[int, None] = {}
    while new := [pid for pid in _tree(leader) if pid not in stopped]:
        for pid in new:
            stopped[pid] = None
            _signal(pid, signal.SIGSTOP)
    for pid in stopped:
        _signal(pid, number)
    for pid in stopped:
        _signal(pid, signal.SIGCONT)


def _tree(leader: int) -> set[int]:
    """The process, its descendants, and the sessions and groups that any of them leads."""
    parents = dict(_parents()) if _PROC.joinpath("self").exists() else {}
    members, grown = {leader}, True
    while grown:
        new = {pid for pid, above in parents.items() if pid not in members and not above.isdisjoint(members)}
        members |= new
        grown = bool(new)
    return members


def _parents() -> Iterator[tuple[int, set[int]]]:
    """All processes, each with its parent and the leaders of its group and its session (proc_pid_stat(5))."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = (entry / "stat").read_bytes()
                yield int(entry.name), set(map(int, status[status.rindex(b")") + 2 :].split()[1:4]))


def _signal(pid: int, number: int) -> None:
    # PermissionError: it has become another user by a set-user-id program, and ends with the container.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
