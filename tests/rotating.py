"""The process that rotates logs, for tests: which one it is, and its end, before which all is written."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil

from mesocosm.linux.poll import readable

TIMEOUT = 20.0


def rotators(directory: Path) -> list[int]:
    """The pids of those that were started for this directory."""
    title = f"mesocosm-logger {directory / 'logger.sock'}"
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if " ".join(process.info["cmdline"] or ()).strip() == title]


def rotator(directory: Path) -> int:
    """The pid of the one that there is."""
    (pid,) = rotators(directory)
    return pid


async def ended(pid: int) -> None:
    """Returns when the process has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await asyncio.wait_for(readable(pidfd), TIMEOUT)
    finally:
        os.close(pidfd)
