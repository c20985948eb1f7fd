"""The Linux launcher: namespaces, and a cgroup per container that finds and kills all of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from mesocosm.container import CGROUP_LEAF, CGROUP_SEPARATOR, ContainerID
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.launcher.base import Child, InitProcess
from mesocosm.launcher.client import LauncherProcess
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import capabilities, cgroup
from mesocosm.linux.cgroup import Hierarchies, Hierarchy

_RESOURCES = frozenset({"cpu", "memory", "pids"})
_KEPT = frozenset({errno.EBUSY, errno.ENODEV, errno.EACCES, errno.EPERM, errno.EROFS})
"""Why a common cgroup stays: others are in it, remove it just now, or own it. An empty one does no harm."""
_FROZEN = 0.1
"""Seconds after which a killed init that still is there is taken for a frozen one."""


class LinuxLauncher:
    """Clones inits into namespaces, and keeps them in the freezer of cgroup v1 or in the tree of cgroup v2."""

    name = "linux"
    records_status = False

    def __init__(self, flags: Flags, process: LauncherProcess) -> None:
        """Raises UnsupportedError where this system cannot do it."""
        if not hasattr(os, "pidfd_open") or not Path("/proc/self/ns").exists():
            raise UnsupportedError("the linux launcher needs Linux 5.12 or later", "use --launcher=posix")
        if os.geteuid() != 0:
            raise UnsupportedError("the linux launcher needs root", "run as root, or use --launcher=posix")
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError(
                "the linux launcher needs CAP_SYS_ADMIN, which this root has not",
                "leave the container that took it, or have it privileged, or use --launcher=posix",
            )
        self._process = process
        hierarchies = cgroup.hierarchies(str(flags.cgroups_hierarchy))
        self._hierarchy = _choose(hierarchies, flags)
        self._root = self._hierarchy.group(flags.cgroups_root)
        self._roots = [hierarchy.group(flags.cgroups_root) for hierarchy in hierarchies.mounted]
        self._patience = flags.cgroups_destroy_timeout
        self._recovered: set[ContainerID] = set()

    def start(self) -> None:
        """Starts the warm process."""
        self._process.start()

    async def recover(self, inits: Mapping[ContainerID, int | None]) -> set[ContainerID]:
        """The containers that have a cgroup and are not on record."""
        strays = set(_containers(Path(self._root), None)) - inits.keys()
        self._recovered = strays.union(inits)
        return strays

    async def fork(
        self,
        container_id: ContainerID,
        info: LaunchInfo,
        parent: InitProcess | None,
        status_file: Path,
    ) -> Child:
        """Makes the container's cgroup and clones its init there. `status_file` is not for the init to know."""
        if parent is None and info.enter_namespaces:
            raise ContainerError(f"{container_id} is to enter namespaces, but is nested in no container")
        entered = parent.descriptor if parent is not None and info.enter_namespaces else None
        group = self._group(container_id)
        try:
            if self._hierarchy.version == 2:
                return await self._fork_into(f"{group}/{CGROUP_LEAF}", info, entered)
            cgroup.create(group)
            if info.cgroups:
                info = replace(info, cgroups=(*info.cgroups, ("freezer", group)))
            child = await self._process.fork(info, parent=entered)
        except BaseException:
            await cgroup.destroy(group, self._patience)
            raise
        return replace(child, joins=(group,))

    async def _fork_into(self, leaf: str, info: LaunchInfo, parent: int | None) -> Child:
        cgroup.create(leaf)
        directory = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return await self._process.fork(info, parent=parent, cgroup=directory)
        finally:
            os.close(directory)

    async def destroy(self, container_id: ContainerID, init: InitProcess | None, *, has_pid_namespace: bool) -> None:
        """Kills by the pid namespace if there is one, else by the cgroup, and removes the cgroup.

        The end of a namespace's init ends all its processes, also where the freezer would wait for the memory that a
        container has run out of. Raises OSError: EBUSY, with the processes that are left, when the patience ends; so
        it does where one waits inside the kernel for what never comes, such as an answer of a file server.
        """
        group = self._group(container_id)
        try:
            async with asyncio.timeout(self._patience):
                await _kill(group, init, has_pid_namespace=has_pid_namespace)
        except TimeoutError:
            left = ", ".join(map(str, cgroup.processes(group, recursive=True))) or "none"
            text = f"killed, and not ended after {self._patience:g} s, processes left: {left}"
            raise OSError(errno.EBUSY, text, group) from None
        await cgroup.destroy(group, self._patience)
        if container_id in self._recovered:
            # It may have been launched with isolators that are not there any more.
            for root in self._roots:
                await cgroup.destroy(f"{root}/{container_id.cgroup}", self._patience)
            self._recovered.discard(container_id)

    async def close(self) -> None:
        """Ends the warm process, and removes the common cgroups if no container is left in them."""
        await self._process.close()
        for root in self._roots:
            try:
                cgroup.remove(root)
            except OSError as error:
                if error.errno not in _KEPT:
                    raise

    def _group(self, container_id: ContainerID) -> str:
        return f"{self._root}/{container_id.cgroup}"


async def _kill(group: str, init: InitProcess | None, *, has_pid_namespace: bool) -> None:
    """Returns when `init` has ended, and all in the cgroup, which is gone then if nothing was in it any more."""
    if init is not None:
        init.send_signal(signal.SIGKILL)
    if init is not None and has_pid_namespace:
        # What is frozen dies when it is thawed, and only a look at every cgroup tells what is. It is seldom.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FROZEN):
                await init.exited()
    try:
        cgroup.remove(group)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        await cgroup.kill(group)
    if init is not None:
        await init.exited()


def _choose(hierarchies: Hierarchies, flags: Flags) -> Hierarchy:
    """Cgroup v2 where that limits resources, else the freezer, else v2 without controllers, which still can kill."""
    unified = hierarchies.unified
    if unified is not None and unified.controllers & _RESOURCES:
        return unified
    if (chosen := hierarchies.freezer or unified) is None:
        raise UnsupportedError(
            f"the linux launcher finds neither cgroup v2 nor the freezer of v1 in {flags.cgroups_hierarchy}",
            "mount one, give --cgroups_hierarchy, or use --launcher=posix",
        )
    return chosen


def _containers(directory: Path, parent: ContainerID | None) -> Iterator[ContainerID]:
    """The containers whose cgroups are in `directory`, with those nested in them."""
    try:
        entries = [entry for entry in directory.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            container_id = ContainerID(PurePosixPath(entry).name, parent)
        except ContainerError:
            continue  # Not made by this launcher.
        yield container_id
        yield from _containers(entry / CGROUP_SEPARATOR, container_id)
