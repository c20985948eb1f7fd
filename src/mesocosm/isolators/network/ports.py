"""The isolator `network/ports`: a container listens on no TCP port of the host but those that it holds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, Limitation, Resources
from mesocosm.errors import FlagError
from mesocosm.flags import AGENT_PORTS, Flags
from mesocosm.isolators.base import ContainerState, Isolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import cgroup, socket_diagnosis

logger = logging.getLogger(__name__)

_SOCKET = re.compile(r"socket:\[(\d+)\]")
_GONE = (FileNotFoundError, ProcessLookupError)

Ranges = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class _Watched:
    """A top-level container: the ports that it holds, those that it was last seen to take, and its limit."""

    held: Ranges
    limitation: asyncio.Future[Limitation]
    taken: frozenset[int] = field(default_factory=frozenset)


class PortsIsolator(Isolator):
    """Looks, each `--container_ports_watch_interval`, who listens; ends what should not, or only tells of it.

    A nested container counts for the top-level one, which holds the ports. One in another network than the host's
    takes none of its ports. Sources: sock_diag(7), the Mesos page on network/ports.
    """

    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._isolated = flags.container_ports_isolated_range
        if flags.check_agent_port_range_only:
            self._isolated = AGENT_PORTS
        found = cgroup.hierarchies(str(flags.cgroups_hierarchy))
        self._hierarchies = [hierarchy for hierarchy in (found.freezer, found.unified) if hierarchy is not None]
        self._watched: dict[ContainerID, _Watched] = {}
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses two answers to the question which ports are looked at."""
        if flags.check_agent_port_range_only and flags.container_ports_isolated_range is not None:
            raise FlagError(
                "--check_agent_port_range_only and --container_ports_isolated_range both say which ports are looked at",
                "remove one of them",
            )
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Watches the containers again."""
        for state in containers:
            self._add(state.container_id, state.config)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Watches the container, unless it is nested in one that is, or not in the network of the host."""
        self._add(container_id, config)
        return None

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        """Resolves when a container listens where it should not, and that is enforced."""
        watched = self._watched.get(container_id)
        return None if watched is None else watched.limitation

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Remembers the ports that it holds now."""
        if (watched := self._watched.get(container_id)) is not None:
            watched.held = resources.ports or ()

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the container."""
        self._watched.pop(container_id, None)
        if not self._watched:
            await self.close()

    async def close(self) -> None:
        """Ends the watch."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])

    def _add(self, container_id: ContainerID, config: ContainerConfig) -> None:
        if container_id.parent is not None or config.networks or config.loopback_only:
            return
        future: asyncio.Future[Limitation] = asyncio.get_running_loop().create_future()
        self._watched[container_id] = _Watched(config.resources.ports or (), future)
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_again_and_again())

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._flags.container_ports_watch_interval)
            suspects = {container_id: watched.held for container_id, watched in self._watched.items()}
            try:
                found = await asyncio.to_thread(self._look, suspects)
            except OSError as error:
                logger.error("network/ports cannot tell who listens: %s", error)
                continue
            for container_id, ports in found.items():
                if (watched := self._watched.get(container_id)) is not None:
                    self._judge(container_id, watched, ports)

    def _look(self, suspects: Mapping[ContainerID, Ranges]) -> dict[ContainerID, frozenset[int]]:
        """The ports that each container listens on and does not hold. One look at all sockets, in a thread."""
        listening = socket_diagnosis.listening()
        if self._isolated is not None:
            listening = {inode: port for inode, port in listening.items() if _within(port, self._isolated)}
        found = {}
        for container_id, held in suspects.items():
            others = {inode: port for inode, port in listening.items() if not _within(port, held)}
            sockets = self._sockets(container_id) if others else frozenset[int]()
            found[container_id] = frozenset(others[inode] for inode in sockets & others.keys())
        return found

    def _sockets(self, container_id: ContainerID) -> frozenset[int]:
        """The inodes of the sockets that the processes of a container have, and of those nested in it."""
        pids: set[int] = set()
        for hierarchy in self._hierarchies:
            group = hierarchy.group(self._flags.cgroups_root, container_id.cgroup)
            pids |= set(cgroup.processes(group, recursive=True))
        return frozenset(inode for pid in pids for inode in _sockets_of(pid))

    def _judge(self, container_id: ContainerID, watched: _Watched, ports: frozenset[int]) -> None:
        """Tells of new ports only. Raises nothing."""
        if not ports or ports == watched.taken:
            watched.taken = ports
            return
        watched.taken = ports
        ranges = _ranges(sorted(ports))
        text = ", ".join(f"{first}-{last}" for first, last in ranges)
        message = f"Container {container_id} is listening on unallocated port(s): [{text}]"
        logger.info(message)
        if self._flags.enforce_container_ports and not watched.limitation.done():
            limitation = Limitation("REASON_CONTAINER_LIMITATION", message, "ports", ranges)
            watched.limitation.set_result(limitation)


def _sockets_of(pid: int) -> Iterable[int]:
    """The inodes of the sockets that a process has open; none if it ends meanwhile. Raises OSError."""
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(*_GONE):
        for name in os.listdir(directory):  # noqa: PTH208 - of many files, and only the names.
            with contextlib.suppress(*_GONE):
                if (match := _SOCKET.fullmatch(os.readlink(f"{directory}/{name}"))) is not None:  # noqa: PTH115
                    yield int(match[1])


def _within(port: int, ranges: Ranges) -> bool:
    return any(first <= port <= last for first, last in ranges)


def _ranges(ports: Iterable[int]) -> Ranges:
    """Sorted numbers as ranges with both ends."""
    ranges: list[tuple[int, int]] = []
    for port in ports:
        if ranges and ranges[-1][1] == port - 1:
            ranges[-1] = ranges[-1][0], port
        else:
            ranges.append((port, port))
    return tuple(ranges)
