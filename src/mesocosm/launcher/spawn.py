"""Starting the launcher process. It imports little, so that a program can do it before all else."""

from __future__ import annotations

import os
import signal
import socket
import sys

from mesocosm.linux.memfd import sealed_copy

WITH_PROGRAMS = "with-programs"
"""An argument of a launcher that has the built-in programs (see `programs`)."""

CONTROL = 3
"""The launcher's descriptor of the socket to the containerizer."""

_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from mesocosm.launcher.bootstrap import main; main()"

_begun: list[tuple[int, socket.socket]] = []


def begin() -> None:
    """Starts a launcher for the first that asks for one. Raises OSError."""
    _begun.append(_spawn())


def spawn() -> tuple[int, socket.socket]:
    """The pid of a launcher and the socket to it: one that was begun, or else a new one. Raises OSError."""
    return _begun.pop() if _begun else _spawn()


def spawn_with_programs() -> tuple[int, socket.socket]:
    """As `spawn`, of a launcher that built-in programs can be forked from. Raises OSError."""
    return _spawn(WITH_PROGRAMS)


def discard() -> None:
    """Ends a launcher that was begun and that nobody asked for."""
    while _begun:
        pid, control = _begun.pop()
        control.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _spawn(*arguments: str) -> tuple[int, socket.socket]:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        return _execute(theirs.fileno(), arguments), control


def _execute(control: int, options: tuple[str, ...]) -> int:
    """Executes an interpreter, from memory where the system can, with no part of the environment; returns its pid."""
    interpreter = os.path.realpath(sys.executable)
    package_root = os.path.realpath(f"{__file__}/../../..")
    arguments = [interpreter, "-I", "-S", "-c", _BOOTSTRAP, package_root, *options]
    with open(os.devnull, "r+b") as null:
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), number) for number in (0, 1)]
        actions.append((os.POSIX_SPAWN_DUP2, control, CONTROL))
        executable = sealed_copy(interpreter, "mesocosm-launcher") if sys.platform == "linux" else None
        try:
            path = interpreter if executable is None else f"/proc/self/fd/{executable}"
            return os.posix_spawn(path, arguments, {}, file_actions=actions, setsid=True, setsigmask=())
        finally:
            if executable is not None:
                os.close(executable)
