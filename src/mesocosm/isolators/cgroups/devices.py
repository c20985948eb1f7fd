"""`cgroups/devices`: which devices a container may open; others are refused, whoever has made their nodes."""

from __future__ import annotations

import os
from functools import cache
from typing import Self

from mesocosm.container import ContainerID
from mesocosm.devices import allowed_devices
from mesocosm.errors import UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.linux import bpf, cgroup
from mesocosm.linux.cgroup.devices import Rule, allow_only

# That of Mesos (isolators/cgroups/subsystems/devices.cpp). Nodes can be made of everything, but not opened.
DEFAULT = tuple(
    map(
        Rule.parse,
        (
            "c *:* m",
            "b *:* m",
            "c 5:1 rwm",  # /dev/console
            "c 4:0 rwm",  # /dev/tty0
            "c 4:1 rwm",  # /dev/tty1
            "c 136:* rwm",  # /dev/pts/*
            "c 5:2 rwm",  # /dev/ptmx
            "c 10:200 rwm",  # /dev/net/tun
            "c 1:3 rwm",  # /dev/null
            "c 1:5 rwm",  # /dev/zero
            "c 1:7 rwm",  # /dev/full
            "c 5:0 rwm",  # /dev/tty
            "c 1:9 rwm",  # /dev/urandom
            "c 1:8 rwm",  # /dev/random
        ),
    )
)


class DevicesIsolator(CgroupIsolator):
    """Allows harmless devices, and those of the flag allowed_devices: by the list of v1, by a program on v2."""

    controllers = ("devices",)
    unified_controllers = ()

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        super().__init__(flags, hierarchies)
        self._rules = (*DEFAULT, *(device.rule for device in allowed_devices(flags.allowed_devices)))

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses also where the kernel of a host with cgroup v2 takes no program. Raises FlagError for the devices."""
        isolator = super().create(flags)
        if isolator.unified and (reason := _refusal()) is not None:
            raise UnsupportedError(
                f"cgroups/devices: the kernel takes no program for the devices of cgroup v2: {reason}",
                "it takes CONFIG_CGROUP_BPF and CAP_BPF, or the devices controller of cgroup v1",
            )
        return isolator

    def set_up(self, container_id: ContainerID, groups: tuple[str, ...]) -> None:
        """Allows what is allowed, and refuses all else."""
        if not self.unified:
            allow_only(groups[0], self._rules)
            return
        program = bpf.load(bpf.device_instructions(self._rules))
        try:
            bpf.attach(groups[0], program)
        finally:
            os.close(program)


@cache
def _refusal() -> OSError | None:
    """What keeps the kernel from taking programs, if anything does."""
    try:
        os.close(bpf.load(bpf.device_instructions(())))
    except OSError as error:
        return error
    return None
