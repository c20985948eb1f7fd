"""The isolator `linux/nnp`: no program gives a container's processes rights that they do not have already."""

from __future__ import annotations

import sys
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.launcher.info import LaunchInfo


class LinuxNoNewPrivilegesIsolator(Isolator):
    """Sets `no_new_privs` for every container (Documentation/userspace-api/no_new_privs.rst).

    Programs with a set-user-id bit or capabilities of their own, such as su, can be executed, and run without these.
    """

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where there is no such thing."""
        if sys.platform != "linux":
            raise UnsupportedError("no_new_privs is of Linux", "remove the name")
        return cls()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The same for all."""
        return LaunchInfo(no_new_privileges=True)
