"""The isolator `namespaces/ipc`: System V IPC, POSIX message queues and /dev/shm of a container's own."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Self

from mesocosm.container import RUNTIME_SEPARATOR, ContainerConfig, ContainerID, IpcMode
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState, Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, Mount, Operation
from mesocosm.linux import capabilities, mount
from mesocosm.linux.mount import Attribute
from mesocosm.linux.namespaces import Namespace, supported

_SHM = "/dev/shm"
_MQUEUE = Path("/dev/mqueue")
_ATTRIBUTES = Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.STRICT_ACCESS_TIME


class IpcNamespaceIsolator(Isolator):
    """An IPC namespace (ipc_namespaces(7)) and a /dev/shm, by `LinuxInfo.ipc_mode`.

    PRIVATE: both are new, and can be shared with nested containers. SHARE_PARENT: both are those of the parent, for a
    top-level container those of the host. Unset: a top-level container has a new namespace, a nested one its parent's;
    /dev/shm is new for a container with a root filesystem, else the host's.

    The tmpfs of a PRIVATE container is mounted in its runtime directory, so that nested containers can be given it.
    """

    phase = Phase.NAMESPACES
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._may_share_with_agent = not flags.disallow_sharing_agent_ipc_namespace
        self._default_size = flags.default_container_shm_size
        self._containers = flags.runtime_dir / RUNTIME_SEPARATOR
        # Where the /dev/shm of each container can be bound from; None where it exists in the container only.
        self._shared_memory: dict[ContainerID, Path | None] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where the kernel has no IPC namespaces, or the caller may not make one."""
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError(
                "an IPC namespace takes root with CAP_SYS_ADMIN", "run as root, or remove namespaces/ipc"
            )
        if not supported(Namespace.IPC):
            raise UnsupportedError("this kernel has no IPC namespaces", "remove namespaces/ipc")
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Learns again where each container's /dev/shm is."""
        for state in sorted(containers, key=lambda state: state.container_id.depth):
            self._shared_memory[state.container_id] = self._find_memory(state.container_id, state.config)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Checks what is asked for and makes the tmpfs of a private container."""
        mode, size = config.linux_info.ipc_mode, config.linux_info.shm_size
        if size is not None and mode is not IpcMode.PRIVATE:
            raise ContainerError(
                f"{container_id} asks for a size of /dev/shm that is not its own", "set ipc_mode to PRIVATE"
            )
        if size is not None and size <= 0:  # To the kernel, 0 means without a limit.
            raise ContainerError(f"{container_id} asks for a /dev/shm of {size} bytes")
        self._shared_memory[container_id] = self._find_memory(container_id, config)
        if config.debug:
            if mode is IpcMode.PRIVATE:
                raise ContainerError(f"the debug container {container_id} cannot have an IPC namespace of its own")
            return LaunchInfo(enter_namespaces=Namespace.IPC)
        if mode is IpcMode.PRIVATE:
            return self._private(container_id, config, size if size is not None else self._default_size)
        if mode is IpcMode.SHARE_PARENT:
            return self._shared(container_id, config)
        return self._unset(container_id, config)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Unmounts the tmpfs."""
        directory = self._mount_point(container_id)
        if self._shared_memory.pop(container_id, directory) == directory and directory.is_mount():
            mount.unmount(str(directory), detach=True)

    def _find_memory(self, container_id: ContainerID, config: ContainerConfig) -> Path | None:
        mode = config.linux_info.ipc_mode
        if mode is IpcMode.PRIVATE:
            return self._mount_point(container_id)
        if mode is None and config.rootfs is not None:
            return None
        if container_id.parent is None or (mode is None and not config.debug):
            return Path(_SHM)
        return self._shared_memory.get(container_id.parent)

    def _private(self, container_id: ContainerID, config: ContainerConfig, size: int | None) -> LaunchInfo:
        directory = self._mount_point(container_id)
        directory.mkdir(parents=True)
        tree = mount.create("tmpfs", _options(size), _ATTRIBUTES)
        try:
            mount.attach_at(tree, str(directory))
        finally:
            os.close(tree)
        own = Bind(str(directory), _SHM, create=config.rootfs is not None)
        return LaunchInfo(clone_namespaces=Namespace.IPC, operations=(*_queues(config), own))

    def _shared(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo:
        parent = container_id.parent
        if parent is None and not self._may_share_with_agent:
            raise ContainerError(
                f"{container_id} asks to share the agent's IPC namespace",
                "--disallow_sharing_agent_ipc_namespace forbids it",
            )
        memory = self._shared_memory[container_id]
        if memory is None:
            raise ContainerError(
                f"{container_id} asks to share the /dev/shm of {parent}, which cannot be shared",
                f"launch {parent} with the ipc_mode PRIVATE",
            )
        operations: tuple[Operation, ...] = ()
        if config.rootfs is not None or parent is not None:
            # Also without a root filesystem: what is mounted on the host shows the queues of the host's namespace.
            operations = _queues(config)
        if config.rootfs is not None or memory != Path(_SHM):
            operations = (*operations, Bind(str(memory), _SHM, create=config.rootfs is not None))
        return LaunchInfo(enter_namespaces=Namespace.NONE if parent is None else Namespace.IPC, operations=operations)

    def _unset(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo:
        own: tuple[Operation, ...] = ()
        if config.rootfs is not None:
            own = (Mount("tmpfs", _SHM, _ATTRIBUTES, _options(self._default_size), create=True),)
        nested = container_id.parent is not None
        return LaunchInfo(
            enter_namespaces=Namespace.IPC if nested else Namespace.NONE,
            clone_namespaces=Namespace.NONE if nested else Namespace.IPC,
            operations=(*_queues(config), *own),
        )

    def _mount_point(self, container_id: ContainerID) -> Path:
        return self._containers / container_id.join(RUNTIME_SEPARATOR) / "shm"


def _options(size: int | None) -> tuple[tuple[str, str], ...]:
    return (("mode", "1777"),) if size is None else (("mode", "1777"), ("size", str(size)))


def _queues(config: ContainerConfig) -> tuple[Operation, ...]:
    """The message queues of the namespace that the container will be in (mq_overview(7))."""
    if config.rootfs is None and not _MQUEUE.is_dir():
        return ()
    attributes = Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.NO_EXECUTE
    return (Mount("mqueue", str(_MQUEUE), attributes, create=config.rootfs is not None),)
