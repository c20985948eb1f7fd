"""The isolator `linux/capabilities`: which rights of root a container has, and which it can ever get."""

from __future__ import annotations

import os
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.isolators.linux.base import find_capabilities, show
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import capabilities


class LinuxCapabilitiesIsolator(Isolator):
    """Limits capabilities by `LinuxInfo`, or else by the flags (capabilities(7); Mesos's page on this isolator).

    The bound holds for every process of the container, its init included. A command of root has all that is in it. One
    of another user has the effective ones, as ambient capabilities, which it passes on.
    """

    def __init__(self, flags: Flags) -> None:
        self._flags = flags

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where there is no right to limit them, and flags that contradict each other."""
        if os.geteuid() != 0 or not capabilities.has(capabilities.SETPCAP):
            raise UnsupportedError(
                "limiting capabilities takes root with CAP_SETPCAP on Linux", "run as root, or remove the name"
            )
        effective, bounding = flags.effective_capabilities, flags.bounding_capabilities
        if effective is not None and bounding is not None and (beyond := set(effective) - set(bounding)):
            raise FlagError(
                f"--effective_capabilities has {show(beyond)}, which --bounding_capabilities has not",
                "add it there, or remove it here",
            )
        return cls(flags)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The sets, if any are to be other than those of the user."""
        return LaunchInfo(capabilities=find_capabilities(self._flags, container_id, config))
