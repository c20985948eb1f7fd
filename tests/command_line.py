"""`mesocosm` as a process of its own, for tests: started, killed, and looked for afterwards."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.machine import hierarchies

TIMEOUT = 30
"""How long a test waits for anything, in seconds: also under emulation it never should take as long."""
MESOCOSM = (sys.executable, "-m", "mesocosm")


class CommandLine:
    """`mesocosm run` with the directories of one test."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name

    def argv(self, *arguments: str, name: str | None = None) -> list[str]:
        own = ["--runtime-dir", str(self.directory / "run"), "--name", name or self.name]
        return [*MESOCOSM, "run", *own, *arguments]

    def run(self, *arguments: str, name: str | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Runs it to its end."""
        options = {"capture_output": True, "timeout": TIMEOUT, "check": False} | options
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.argv(*arguments, name=name), **options)

    @contextmanager
    def start(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Starts it, with its output in a pipe, and waits for its end."""
        options = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
        with subprocess.Popen(self.argv(*arguments), **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def left(self) -> list[Path]:
        """What there is of the runs of the test."""
        places = [self.directory / "run/run", Path("/run/mesocosm/run"), Path("/var/lib/mesocosm/run")]
        places += [hierarchy / "mesocosm" for hierarchy in hierarchies()]
        return [path for place in places if place.exists() for path in place.iterdir() if self.name in path.name]


def line(process: subprocess.Popen[bytes]) -> str:
    """The next line of the output of a process."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], TIMEOUT)[0], "no output"
    return process.stdout.readline().decode().rstrip("\n")


def children(pid: int) -> list[int]:
    """The children of a process, of whichever thread."""
    lists = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for text in lists for child in text.split()]


def stop(pid: int) -> None:
    """Stops a process; returns when it has."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def kill_whole(process: subprocess.Popen[bytes]) -> None:
    """Kills a process with -9; returns when it and all processes that it started have ended."""
    stop(process.pid)
    pidfds = [os.pidfd_open(child) for child in children(process.pid)]
    process.kill()
    process.wait(TIMEOUT)
    for pidfd in pidfds:
        ended = select.select([pidfd], [], [], TIMEOUT)[0]
        os.close(pidfd)
        assert ended, "a process did not end"
