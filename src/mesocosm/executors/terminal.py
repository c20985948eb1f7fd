"""The terminal of an executor's container, which is for its task: the task is to lead the session that has it."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
from collections.abc import Sequence
from pathlib import Path

from mesocosm.launcher.execution import FileAction, opening

_STREAMS = range(3)


def give_up() -> Sequence[FileAction]:
    """What has a child open the terminal that this process was started with; nothing where there is none.

    The process itself lets go of it, since what has it open is cut off when the task has ended, and from now on writes
    to the file `stderr` of the sandbox. Raises OSError.
    """
    if not os.isatty(0):
        return ()
    name = os.ttyname(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Which is sent to the leader of the session that had it.
    fcntl.ioctl(0, termios.TIOCNOTTY)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(Path(os.environ["MESOS_SANDBOX"], "stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, descriptor in zip(_STREAMS, (null, log, log), strict=True):
        os.dup2(descriptor, number)
    os.close(null)
    os.close(log)
    return opening(name)
