"""How much of a disk a directory holds, as du(1) counts it, where somebody else fills the directory meanwhile.

Also a process that measures, one child for each directory: whatever is in there, only that child has to cope with it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mesocosm.linux.path import identity_of, open_above, open_plain_directory

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BLOCK = 512
"""The unit of `st_blocks` (stat(3type))."""
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ESTALE, errno.EAGAIN)
"""What comes of a tree that changes, and of mounts in it, which are not part of it."""
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_NICENESS = 10
_FIRST_TO_GO = 1000
"""The `oom_score_adj` (proc_pid_oom_score_adj(5)) of a process that the kernel shall end before any other."""


def measure(directory: str) -> int:
    """Bytes allocated to `directory` and all that is in it. Raises OSError if it cannot be opened.

    A file with several names counts once. No link is followed but `directory` itself, and no other file system or mount
    entered. What may not be looked at counts as nothing; so may what moves meanwhile, or it counts twice. It takes a
    few descriptors, however deep the directory is.
    """
    walk = Walk(directory)
    try:
        walk.run()
    finally:
        walk.close()
    return walk.used


@dataclass(slots=True)
class _Level:
    """A directory on the way to the one that is open, and those in it that are still to be visited."""

    name: str
    identity: tuple[int, int]
    pending: list[str] = field(default_factory=list)


class Walk:
    """Goes down and up through a directory, and has only that and the present one open.

    `used` are the bytes that it has seen. A subclass may do something to all that it sees.
    """

    def __init__(self, directory: str) -> None:
        self._root = os.open(directory, _DIRECTORY)
        self._here = os.dup(self._root)
        status = os.fstat(self._root)
        self.used = status.st_blocks * _BLOCK
        self._linked: set[tuple[int, int]] = set()
        self._levels = [_Level("", (status.st_dev, status.st_ino))]

    def enter(self, directory: int) -> None:
        """Called with each open directory, before what is in it. May raise OSError."""

    def visit(self, name: str, status: os.stat_result, directory: int) -> None:
        """Called with everything else, by its name in the open directory. May raise OSError."""

    def close(self) -> None:
        """Closes what is open."""
        os.close(self._here)
        os.close(self._root)

    def run(self) -> None:
        """Goes all the way. What `enter` raises for the directory itself is raised."""
        self.enter(self._root)
        self._read()
        while True:
            level = self._levels[-1]
            if level.pending:
                self._descend(level.pending.pop())
            elif len(self._levels) > 1:
                self._ascend()
            else:
                return

    def _read(self) -> None:
        """Counts what is here, and notes the directories."""
        pending = self._levels[-1].pending
        with _passing_over(*_CHANGED, *_FORBIDDEN), os.scandir(self._here) as entries:
            for entry in entries:
                with _passing_over(*_CHANGED, *_FORBIDDEN):
                    status = entry.stat(follow_symlinks=False)
                    if self._count(status):
                        pending.append(entry.name)
                    elif status.st_dev == self._levels[-1].identity[0]:
                        self.visit(entry.name, status, self._here)

    def _count(self, status: os.stat_result) -> bool:
        """Adds one entry of the present directory; whether it is a directory to be visited."""
        is_directory = stat.S_ISDIR(status.st_mode)
        if status.st_dev != self._levels[-1].identity[0]:
            return is_directory  # A mount, which will not be entered, or a subvolume of btrfs, which will.
        if status.st_nlink > 1 and not is_directory:
            identity = status.st_dev, status.st_ino
            if identity in self._linked:
                return False
            self._linked.add(identity)
        self.used += status.st_blocks * _BLOCK
        return is_directory

    def _descend(self, name: str) -> None:
        with _passing_over(*_CHANGED, *_FORBIDDEN):
            below = open_plain_directory(self._here, name)
            self._go(below)
            self._levels.append(_Level(name, identity_of(below)))
            self.enter(below)
            self._read()

    def _ascend(self) -> None:
        self._levels.pop()
        with _passing_over(*_CHANGED, *_FORBIDDEN):
            self._go(open_above(self._here, self._levels[-1].identity))
            return
        self._return()

    def _return(self) -> None:
        """Comes back from a directory that was moved, to the lowest level that is still where it was."""
        self._go(os.dup(self._root))
        for position, level in enumerate(self._levels[1:], 1):
            below = None
            with _passing_over(*_CHANGED, *_FORBIDDEN):
                below = open_plain_directory(self._here, level.name)
            if below is None or identity_of(below) != level.identity:
                if below is not None:
                    os.close(below)
                del self._levels[position:]
                return
            self._go(below)

    def _go(self, descriptor: int) -> None:
        os.close(self._here)
        self._here = descriptor


@contextlib.contextmanager
def _passing_over(*codes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise


def main() -> None:
    """Serves requests, one JSON object on a line of the standard input: `{"id": 1, "path": "/…"}` to measure it.

    The answer, `{"id": 1, "used": 4096}` or one with `error`, an errno, is a line of the standard output.
    `{"id": 1}` has the measuring end without one. With the input ends the process, and all that it measures.
    """
    os.nice(_NICENESS)
    children: dict[int, int] = {}
    try:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            _reap(children)
            if "path" in request:
                children[request["id"]] = _fork(request)
            elif request["id"] in children:
                os.kill(children[request["id"]], signal.SIGKILL)
    finally:
        _reap(children)
        for pid in children.values():
            os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, int]) -> None:
    """Forgets the children that have ended. Only here, so that a pid in the table is that of no other process."""
    for number, pid in list(children.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del children[number]


def _fork(request: dict[str, Any]) -> int:
    if pid := os.fork():
        return pid
    try:
        if sys.platform == "linux":
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(str(_FIRST_TO_GO))
        # Less than PIPE_BUF, so that the lines of several do not mix.
        os.write(1, json.dumps({"id": request["id"], **_measured(request["path"])}).encode() + b"\n")
    finally:
        os._exit(0)


def _measured(path: str) -> dict[str, int]:
    try:
        return {"used": measure(path)}
    except OSError as error:
        return {"error": error.errno or errno.EIO}
