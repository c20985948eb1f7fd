"""The isolator `namespaces/pid`: a container sees only its own processes, and they all end with its init."""

from __future__ import annotations

from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Mount
from mesocosm.linux import capabilities
from mesocosm.linux.mount import Attribute
from mesocosm.linux.namespaces import Namespace, supported

_PROC = Mount("proc", "/proc", Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.NO_EXECUTE)


class PidNamespaceIsolator(Isolator):
    """A pid namespace per container, unless it asks to share that of its parent (pid_namespaces(7)).

    A nested container is in a namespace below its parent's: the parent sees its processes, and they cannot outlive it.
    """

    phase = Phase.NAMESPACES
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._may_share_with_agent = not flags.disallow_sharing_agent_pid_namespace

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where the kernel has no pid namespaces, or the caller may not make one."""
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError(
                "a pid namespace takes root with CAP_SYS_ADMIN", "run as root, or remove namespaces/pid"
            )
        if not supported(Namespace.PID):
            raise UnsupportedError("this kernel has no pid namespaces", "remove namespaces/pid")
        return cls(flags)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Enters the parent's namespace if there is a parent, and makes a new one unless it is to be shared."""
        nested = container_id.parent is not None
        enter = Namespace.PID if nested else Namespace.NONE
        if config.debug:
            return LaunchInfo(enter_namespaces=enter)
        share = config.linux_info.share_pid_namespace
        if share and not nested and not self._may_share_with_agent:
            raise ContainerError(
                f"{container_id} asks to share the agent's pid namespace",
                "--disallow_sharing_agent_pid_namespace forbids it",
            )
        # filesystem/linux mounts the /proc of a root filesystem. The host's is right only where its namespace is.
        stale = config.rootfs is None and (nested or not share)
        return LaunchInfo(
            enter_namespaces=enter,
            clone_namespaces=Namespace.NONE if share else Namespace.PID,
            operations=(_PROC,) if stale else (),
        )
