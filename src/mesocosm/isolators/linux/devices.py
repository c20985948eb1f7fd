"""The isolator `linux/devices`: devices of the host in the /dev of containers that have a root file system."""

from __future__ import annotations

import os
import posixpath
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.devices import AllowedDevice, allowed_devices
from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import DeviceNode

_DEV = "/dev"
_MODES = {"r": 0o444, "w": 0o222, "m": 0}


class LinuxDevicesIsolator(Isolator):
    """Makes a node of each device of the flag allowed_devices. To be opened, `cgroups/devices` must not refuse it.

    Whoever may use it in the container is what the flag says: the permissions are the same for all users there.
    """

    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, nodes: tuple[DeviceNode, ...]) -> None:
        self._nodes = nodes

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Raises FlagError for a device that is none, or is not in /dev."""
        if os.geteuid() != 0:
            raise UnsupportedError("linux/devices needs root", "run as root, or leave it out of --isolation")
        return cls(tuple(map(_node, allowed_devices(flags.allowed_devices))))

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The nodes, for a container with a /dev of its own."""
        if config.rootfs is None or not self._nodes:
            return None
        return LaunchInfo(operations=self._nodes)


def _node(device: AllowedDevice) -> DeviceNode:
    path = posixpath.normpath(device.path)
    if not path.startswith(f"{_DEV}/"):
        raise FlagError(
            f"--allowed_devices: {device.path!r} is not in {_DEV}, where linux/devices makes it for containers",
            "name it by a path in there, or leave linux/devices out of --isolation",
        )
    mode = 0o600
    for access in device.rule.access:
        mode |= _MODES[access]
    assert device.rule.major is not None
    assert device.rule.minor is not None
    return DeviceNode(path, device.rule.kind == "b", mode, device.rule.major, device.rule.minor)
