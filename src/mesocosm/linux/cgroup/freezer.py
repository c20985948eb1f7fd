"""Freezing the processes of a cgroup, and killing them (v1: freezer-subsystem.rst; v2: cgroup-v2.rst)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from mesocosm.linux import poll, process
from mesocosm.linux.cgroup import files
from mesocosm.linux.cgroup.tree import pauses, processes, subtree

_BATCH = 100
_FREEZE_PATIENCE = 0.25
_KILL_AGAIN = 1.0


async def freeze(group: str) -> None:
    """Stops the processes of a cgroup and of those below it; returns when all have stopped. Raises OSError.

    That lasts as long as one of them waits inside the kernel: `asyncio.timeout` is the caller's.
    """
    if files.exists(group, "cgroup.freeze"):
        files.write(group, "cgroup.freeze", 1)
        await poll.until(f"{group}/cgroup.events", lambda text: files.parse_keyed(text)["frozen"] == 1)
        return
    files.write(group, "freezer.state", "FROZEN")
    for pause in pauses():
        if files.read(group, "freezer.state") == "FROZEN\n":
            return
        await asyncio.sleep(pause)  # FREEZING becomes FROZEN when the state is looked at; there is no event.


def thaw(group: str) -> None:
    """Lets the processes of a cgroup run again, but for those that a cgroup above or below keeps frozen.

    Raises OSError.
    """
    if files.exists(group, "cgroup.freeze"):
        files.write(group, "cgroup.freeze", 0)
    else:
        files.write(group, "freezer.state", "THAWED")


async def kill(group: str) -> None:
    """Kills every process of a cgroup and of those below it, frozen or not; returns when all have ended.

    That lasts as long as one of them waits inside the kernel: `asyncio.timeout` is the caller's. On v1 the group is
    one of the freezer, and the cgroups above it that are frozen are thawed too, as nothing frozen can die. An absent
    group is no error. Raises OSError.
    """
    if files.exists(group, "cgroup.kill"):  # Linux 5.14.
        await _kill_at_once(group)
    else:
        await kill_each(group)


async def _kill_at_once(group: str) -> None:
    while files.exists(group):
        try:
            files.write(group, "cgroup.kill", 1)
            async with asyncio.timeout(_KILL_AGAIN):
                await poll.until(f"{group}/cgroup.events", lambda text: files.parse_keyed(text)["populated"] == 0)
        except TimeoutError:
            continue  # One that was moved here after the write goes on, and no event tells of it.
        except FileNotFoundError:
            pass
        return


async def kill_each(group: str) -> None:
    """What `kill` does where the kernel cannot kill a whole cgroup: on v1, and on v2 before Linux 5.14."""
    while pids := processes(group, recursive=True):
        # Frozen first, lest they fork faster than they are found. Where that takes too long they die all the same.
        with suppress(TimeoutError):
            async with asyncio.timeout(_FREEZE_PATIENCE):
                await _freeze_if_possible(group)
        try:
            _send_kill(group, processes(group, recursive=True))
        finally:
            _thaw_all(group)
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_AGAIN):
                await _ended(group, pids)


async def _freeze_if_possible(group: str) -> None:
    # In a hierarchy of v1 other than that of the freezer it is not, nor when another removes the group.
    with suppress(FileNotFoundError):
        await freeze(group)


def _send_kill(group: str, pids: Sequence[int]) -> None:
    for start in range(0, len(pids), _BATCH):
        pidfds = {
            pid: pidfd for pid in pids[start : start + _BATCH] if (pidfd := process.open_process(pid)) is not None
        }
        try:
            # A process that is in the cgroup while its pidfd is open is the one of the pidfd, not a later one.
            for pid in pidfds.keys() & set(processes(group, recursive=True)):
                process.send_signal(pidfds[pid], signal.SIGKILL)
        finally:
            for pidfd in pidfds.values():
                os.close(pidfd)


def _thaw_all(group: str) -> None:
    """Thaws what keeps a process of the group frozen: itself, the cgroups below, and on v1 those above."""
    above = group
    while files.exists(above, "freezer.parent_freezing") and files.read_int(above, "freezer.parent_freezing"):
        above = above.rpartition("/")[0]
        thaw(above)
    for member in subtree(group):
        with suppress(FileNotFoundError):
            thaw(member)


async def _ended(group: str, pids: Sequence[int]) -> None:
    for pid in pids:
        pidfd = process.open_process(pid)
        if pidfd is None:
            continue
        try:
            if pid in processes(group, recursive=True):
                await poll.readable(pidfd)
        finally:
            os.close(pidfd)
