"""The isolator `network/ports`: a container listens on no TCP port of the host but those that it holds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, Resources
from mesocosm.errors import FlagError
from mesocosm.flags import AGENT_PORTS, Flags
from mesocosm.isolators.base import Watched, WatchingIsolator
from mesocosm.linux import cgroup, socket_diagnosis
from mesocosm.statistics import Limitation

logger = logging.getLogger(__name__)

_SOCKET = re.compile(r"socket:\[(\d+)\]")
_GONE = (FileNotFoundError, ProcessLookupError)

Ranges = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class _Listener(Watched):
    """A top-level container: the ports that it holds, those that it was last seen to take, and its limit."""

    held: Ranges
    taken: frozenset[int] = field(default_factory=frozenset)


class PortsIsolator(WatchingIsolator[_Listener]):
    """Looks, each `--container_ports_watch_interval`, who listens; ends what should not, or only tells of it.

    A nested container counts for the top-level one, which holds the ports. One in another network than the host's
    takes none of its ports. Sources: sock_diag(7), the Mesos page on network/ports.
    """

    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        super().__init__()
        self._flags = flags
        self._isolated = flags.container_ports_isolated_range
        if flags.check_agent_port_range_only:
            self._isolated = AGENT_PORTS
        found = cgroup.hierarchies(str(flags.cgroups_hierarchy))
        self._hierarchies = [hierarchy for hierarchy in (found.freezer, found.unified) if hierarchy is not None]
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses two answers to the question which ports are looked at."""
        if flags.check_agent_port_range_only and flags.container_ports_isolated_range is not None:
            raise FlagError(
                "--check_agent_port_range_only and --container_ports_isolated_range both say which ports are looked at",
                "remove one of them",
            )
        return cls(flags)

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Remembers the ports that it holds now."""
        if (watched := self._watched.get(container_id)) is not None:
            watched.held = resources.ports or ()

    async def cleanup(self, container_id: ContainerID) -> None:
        """Forgets the container, and looks no more after the last one."""
        await super().cleanup(container_id)
        if not self._watched:
            await self.close()

    async def close(self) -> None:
        """Looks no more."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])

    async def take_up(self, container_id: ContainerID, config: ContainerConfig) -> _Listener | None:
        """Nothing of one that is nested, and counts with the one around it, or that is not in the host's network."""
        if container_id.parent is not None or config.networks or config.loopback_only:
            return None
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_again_and_again())
        return _Listener(config.resources.ports or ())

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

    def _judge(self, container_id: ContainerID, watched: _Listener, ports: frozenset[int]) -> None:
        """Tells of new ports only. Raises nothing."""
        if not ports or ports == watched.taken:
            watched.taken = ports
            return
        watched.taken = ports
        ranges = _ranges(sorted(ports))
        text = ", ".join(f"{first}-{last}" for first, last in ranges)
        message = f"Container {container_id} is listening on unallocated port(s): [{text}]"
        logger.info(message)
        if self._flags.enforce_container_ports:
            watched.end(Limitation("REASON_CONTAINER_LIMITATION", message, "ports", ranges))


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
