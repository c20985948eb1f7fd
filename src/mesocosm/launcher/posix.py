"""The POSIX launcher: sessions instead of namespaces and cgroups. It isolates nothing, and needs no privilege."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError
from mesocosm.launcher.base import Child, InitProcess
from mesocosm.launcher.client import LauncherProcess
from mesocosm.launcher.info import LaunchInfo


class PosixLauncher:
    """Forks inits as session leaders; a container is what descends from one or is in its session."""

    name = "posix"
    records_status = True

    def __init__(self, process: LauncherProcess) -> None:
        self._process = process
        self._recovered: dict[ContainerID, int] = {}

    def start(self) -> None:
        """Starts the warm process."""
        self._process.start()

    async def recover(self, inits: Mapping[ContainerID, int | None]) -> set[ContainerID]:
        """None: nothing but the containerizer's own state tells of a container."""
        self._recovered = {container_id: pid for container_id, pid in inits.items() if pid is not None}
        return set()

    async def fork(
        self,
        container_id: ContainerID,
        info: LaunchInfo,
        parent: InitProcess | None,
        status_file: Path,
    ) -> Child:
        """Forks an init that records the exit status itself, as it shares the file system anyway."""
        if info.operations or info.volumes or info.clone_namespaces or info.enter_namespaces or info.rootfs is not None:
            raise ContainerError(f"{container_id} needs namespaces or mounts", "use --launcher=linux")
        return await self._process.fork(info, status_file=status_file)

    async def destroy(self, container_id: ContainerID, init: InitProcess | None, *, has_pid_namespace: bool) -> None:
        """Kills the processes of the session and all descendants, stopped first so that none escapes by forking.

        Where the init is gone, nothing tells of what has left its session.
        """
        if init is None:
            if (pid := self._recovered.get(container_id)) is not None:
                await asyncio.to_thread(_kill_session, pid)
            return
        init.send_signal(signal.SIGSTOP)  # In the middle of a launch it would start the command meanwhile.
        await asyncio.to_thread(_kill_tree, init.pid)
        init.send_signal(signal.SIGKILL)
        await init.exited()

    async def close(self) -> None:
        """Ends the warm process."""
        await self._process.close()


def _kill_session(leader: int) -> None:
    """Kills the session of a process that is gone. If its pid is another's by now, nothing of the session is left."""
    if not psutil.pid_exists(leader):
        _kill_tree(leader)


def _kill_tree(leader: int) -> None:
    """Stops what it finds until it finds nothing new, then kills all of it."""
    stopped: dict[int, psutil.Process] = {}
    while new := [found for found in _find(leader) if found.pid not in stopped]:
        for found in new:
            stopped[found.pid] = found
            _signal(found, signal.SIGSTOP)
    for found in stopped.values():
        _signal(found, signal.SIGKILL)


def _find(leader: int) -> list[psutil.Process]:
    """The session of `leader`, and what descends from it.

    The kernel gives a pid that names a session to no new process, so the session is right when the leader is gone.
    """
    found = []
    members: set[int] = {leader}
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if candidate.pid == leader:
                continue
            if os.getsid(candidate.pid) == leader or candidate.ppid() in members:
                members.add(candidate.pid)
                found.append(candidate)
    return found


def _signal(target: psutil.Process, number: int) -> None:
    """Sends a signal, if the process is still the same."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        target.send_signal(number)
