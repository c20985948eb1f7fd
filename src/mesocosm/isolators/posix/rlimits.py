"""The isolator `posix/rlimits`: limits of setrlimit(2) for a container's command and what it starts."""

from __future__ import annotations

from typing import Self

from mesocosm.container import ContainerConfig, ContainerID, RLimit
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.launcher.info import LaunchInfo, ResourceLimit
from mesocosm.linux import capabilities, rlimits


class PosixRLimitsIsolator(Isolator):
    """Sets what `ContainerConfig.rlimits` asks for, of which the last counts; others stay as Mesocosm has them.

    These are limits of each process, and of each user for RLMT_NPROC, RLMT_MEMLOCK, RLMT_MSGQUEUE and RLMT_SIGPENDING,
    and none of the container as a whole.
    """

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere."""
        return cls()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The limits, if they can be set."""
        limits = {limit.name: _resolve(container_id, limit) for limit in config.rlimits}
        return LaunchInfo(rlimits=tuple(limits.values()))


def _resolve(container_id: ContainerID, limit: RLimit) -> ResourceLimit:
    """Raises ContainerError for a limit that makes no sense, or that nobody here may set."""
    name = f"RLMT_{limit.name}"
    number = rlimits.number(limit.name) if limit.name in rlimits.NAMES else None
    if number is None:
        raise ContainerError(f"{container_id}: this system has no limit {name}", "leave it out")
    if (limit.soft is None) != (limit.hard is None):
        missing = "soft" if limit.soft is None else "hard"
        raise ContainerError(f"{container_id}: {name} has no {missing} limit", "give both, or none for no limit")
    soft, hard = rlimits.finite(limit.soft), rlimits.finite(limit.hard)
    if _exceeds(soft, hard):
        raise ContainerError(
            f"{container_id}: the soft limit of {name}, {_show(soft)}, is above the hard one, {hard}",
            "the soft one may be as high as the hard one",
        )
    _, own = rlimits.get(number)
    if _exceeds(hard, own) and not capabilities.has(capabilities.SYS_RESOURCE):
        raise ContainerError(
            f"{container_id}: the hard limit of {name}, {_show(hard)}, is above that of Mesocosm itself, {own}",
            "raising it takes CAP_SYS_RESOURCE",
        )
    return ResourceLimit(limit.name, number, soft, hard)


def _exceeds(limit: int | None, other: int | None) -> bool:
    return other is not None and (limit is None or limit > other)


def _show(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)
