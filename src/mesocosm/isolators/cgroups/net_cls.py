"""`cgroups/net_cls`: a class for the packets of each container, by which tc and iptables know them."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection
from typing import Self

from mesocosm.container import ContainerID, ContainerStatus
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.linux import cgroup

_CLASS = "net_cls.classid"
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,4}|[0-9]{1,5}")
_MOST = 0xFFFF
_PRIMARY, _SECONDARIES = "cgroups_net_cls_primary_handle", "cgroups_net_cls_secondary_handles"


class Handles:
    """The classes that containers can have: 0xAAAABBBB, of `primary` 0xAAAA and one of `secondaries` each."""

    def __init__(self, primary: int, secondaries: range) -> None:
        self._every = range((primary << 16) + secondaries.start, (primary << 16) + secondaries.stop)
        self._free = list(self._every)  # A heap, as it is sorted; with those that were found in use.
        self._taken: dict[ContainerID, int] = {}
        self._in_use: set[int] = set()

    @classmethod
    def of(cls, flags: Flags) -> Self | None:
        """Those of the flags; None if the operator manages them. Raises FlagError."""
        primary = flags.cgroups_net_cls_primary_handle
        secondaries = flags.cgroups_net_cls_secondary_handles
        if primary is None:
            if secondaries is not None:
                raise FlagError(f"--{_SECONDARIES} needs --{_PRIMARY}", "add that, or remove the flag")
            return None
        first, last = 1, _MOST
        if secondaries is not None:
            bounds = secondaries.split(",")
            if len(bounds) != 2:
                raise FlagError(f"--{_SECONDARIES}: {secondaries!r} is no range", "write FIRST,LAST, as 0x1,0xFFFF")
            first, last = (_parse(_SECONDARIES, bound.strip()) for bound in bounds)
            if first > last:
                raise FlagError(f"--{_SECONDARIES}: there is nothing in the range {secondaries!r}", "exchange the two")
        return cls(_parse(_PRIMARY, primary), range(first, last + 1))

    def take(self, container_id: ContainerID) -> int:
        """The lowest free one, which is the container's from now on. Raises ContainerError."""
        while self._free:
            handle = heapq.heappop(self._free)
            if handle not in self._in_use:
                self._have(container_id, handle)
                return handle
        raise ContainerError(
            f"container {container_id} can get no class: all {len(self._every)} are in use", f"widen --{_SECONDARIES}"
        )

    def keep(self, container_id: ContainerID, handle: int) -> None:
        """Leaves the container the one it has; others need not be looked after."""
        if handle in self._every and handle not in self._in_use:
            self._have(container_id, handle)

    def give_back(self, container_id: ContainerID) -> None:
        """Makes what the container had free again."""
        if (handle := self._taken.pop(container_id, None)) is not None:
            self._in_use.remove(handle)
            heapq.heappush(self._free, handle)

    def _have(self, container_id: ContainerID, handle: int) -> None:
        self._taken[container_id] = handle
        self._in_use.add(handle)


def _parse(flag: str, text: str) -> int:
    number = int(text, 16 if "x" in text.lower() else 10) if _NUMBER.fullmatch(text) else 0
    if not 0 < number <= _MOST:
        raise FlagError(f"--{flag}: {text!r} is no handle", f"write a number from 0x1 to {_MOST:#x}")
    return number


class NetClsIsolator(CgroupIsolator):
    """Gives each container a class of its own, if the flags say which there are (kernel: cgroup-v1/net_cls.rst)."""

    controllers = ("net_cls",)
    unified_controllers = None

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._handles = Handles.of(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Also finds out which classes are in use."""
        await super().recover(containers, orphans)
        if self._handles is None:
            return
        for container_id in (*(state.container_id for state in containers), *orphans):
            for group in self._paths(container_id):
                if cgroup.exists(group):
                    self._handles.keep(container_id, _class_of(group))

    def set_up(self, container_id: ContainerID, groups: tuple[str, ...]) -> None:
        """Gives it a class. The kernel gave it that of the cgroup above."""
        if self._handles is not None:
            cgroup.write(groups[0], _CLASS, self._handles.take(container_id))

    def describe(self, groups: tuple[str, ...]) -> ContainerStatus:
        """The class, whoever has written it."""
        return ContainerStatus(net_cls_classid=_class_of(groups[0]) or None)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Gives the class back, when nothing has it any more."""
        await super().cleanup(container_id)
        if self._handles is not None:
            self._handles.give_back(container_id)


def _class_of(group: str) -> int:
    return cgroup.read_int(group, _CLASS) or 0
