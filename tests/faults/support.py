"""A caller of the containerizer in a process of its own, which can be killed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesocosm.flags import Flags
from tests.faults import caller

PROGRAM = str(Path(caller.__file__))


def arguments(flags: Flags, moment: str, rootfs: Path | None, command: str) -> list[str]:
    """The command line of a caller."""
    values = json.dumps(dataclasses.asdict(flags), default=str)
    return [sys.executable, PROGRAM, values, moment, "" if rootfs is None else str(rootfs), command]


@contextmanager
def running(flags: Flags, rootfs: Path | None = None, command: str = caller.COMMAND) -> Iterator[tuple[int, int]]:
    """The pid of a caller and that of the init that it has launched. The caller is killed at the end."""
    line = arguments(flags, "running", rootfs, command)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()
