"""What the isolators of cgroup controllers have in common: the cgroups of containers, made, joined and removed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from mesocosm.container import CGROUP_LEAF, ContainerConfig, ContainerID, ContainerStatus, Resources
from mesocosm.errors import ContainerError, UnknownContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import NO_STATISTICS, NO_STATUS, ContainerState, Isolator, Phase
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.kernel_filesystems import UNIFIED
from mesocosm.linux import cgroup
from mesocosm.statistics import ResourceStatistics


def owns_cgroup(container_id: ContainerID, config: ContainerConfig) -> bool:
    """Whether a container has a cgroup of its own, or is in that of the container it is nested in."""
    return container_id.parent is None or not (config.debug or config.linux_info.share_cgroups)


class CgroupIsolator(Isolator):
    """One cgroup controller, by whichever version of cgroups the host has it in: v1 where it is mounted, else v2.

    A subclass names what it is called, and reads and writes control files in `set_up`, `apply` and `measure`, as far as
    there is anything to do but to have the cgroup. `groups` are the cgroups of a container: one for each hierarchy, so
    mostly one.
    """

    phase = Phase.CGROUPS
    controllers: ClassVar[tuple[str, ...]]
    """Its names on cgroup v1."""
    unified_controllers: ClassVar[tuple[str, ...] | None]
    """Its names on cgroup v2; none for what every cgroup of v2 has; None: v2 has not got it."""
    resource: ClassVar[str | None] = None
    """The amount of `Resources` it is about, if any."""

    def __init__(self, flags: Flags, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
        self.flags = flags
        self.unified = hierarchies[0].version == 2
        self.concurrent = not self.unified  # On v2 the init is cloned into its cgroup.
        self.hierarchies = hierarchies
        # Of all known containers. Empty for those that share the cgroup of their parent.
        self._groups: dict[ContainerID, tuple[str, ...]] = {}

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses without root, and where the controller is not mounted or cgroups with it cannot be made."""
        if os.geteuid() != 0:
            raise UnsupportedError(f"{cls.name()} needs root", "run as root, or use --isolation=posix/cpu,posix/mem")
        hierarchies = cls.find(flags)
        for hierarchy in hierarchies:
            _refuse_unusable(hierarchy, flags.cgroups_root, cls.unified_controllers or (), cls.name())
        return cls(flags, hierarchies)

    @classmethod
    def name(cls) -> str:
        """How `--isolation` names the isolator."""
        return f"cgroups/{cls.__module__.rpartition('.')[2]}"

    @classmethod
    def find(cls, flags: Flags) -> tuple[cgroup.Hierarchy, ...]:
        """The hierarchies of the controllers on this host. Raises UnsupportedError where one is missing."""
        mounted = cgroup.hierarchies(str(flags.cgroups_hierarchy))
        legacy = {controller: mounted.legacy(controller) for controller in cls.controllers}
        unified = mounted.unified
        if legacy[cls.controllers[0]] is None and unified is not None and cls._is_in(unified):
            return (unified,)
        for controller, hierarchy in legacy.items():
            if hierarchy is None:
                raise cls._missing(controller, flags.cgroups_hierarchy)
        found = {hierarchy.path: hierarchy for hierarchy in legacy.values() if hierarchy is not None}
        return tuple(found.values())

    @classmethod
    def _is_in(cls, unified: cgroup.Hierarchy) -> bool:
        return cls.unified_controllers is not None and unified.controllers.issuperset(cls.unified_controllers)

    @classmethod
    def _missing(cls, controller: str, root: Path) -> UnsupportedError:
        named = " and ".join(dict.fromkeys((controller, *(cls.unified_controllers or ()))))
        elsewhere = ", and cgroup v2 has none" if cls.unified_controllers is None else ""
        on_unified = f" on cgroup v2 enable {named} in cgroup.subtree_control of the cgroup above,"
        return UnsupportedError(
            f"{cls.name()}: there is no {controller} controller at {root} or below{elsewhere}",
            f"mount it there (mount -t cgroup -o {controller} none DIRECTORY),"
            f"{on_unified if cls.unified_controllers else ''} or leave {cls.name()} out of --isolation",
        )

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Finds the cgroups again."""
        for state in containers:
            groups = self._paths(state.container_id) if owns_cgroup(state.container_id, state.config) else ()
            # A cgroup is missing when the isolator was enabled after the launch, or the container is half removed.
            self._groups[state.container_id] = groups if all(map(cgroup.exists, groups)) else ()

    async def announce(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Makes the cgroup, with nothing written to it yet, where the init mounts it in a root file system."""
        if config.rootfs is None:
            return None
        own = self._paths(container_id) if owns_cgroup(container_id, config) else ()
        for group in own:
            cgroup.create(group)
        return LaunchInfo(cgroups=self._shown(own or self._nearest(container_id)))

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Makes the container's cgroup and writes its amounts, unless it shares its parent's.

        A root file system of its own shows the container what it is in, which could see it in that of the host anyway.
        """
        self._make(container_id, config)
        return None if config.rootfs is None else LaunchInfo(cgroups=self._shown(self._nearest(container_id)))

    def _make(self, container_id: ContainerID, config: ContainerConfig) -> None:
        if container_id in self._groups:
            raise ContainerError(f"{self.name()}: container {container_id} was prepared already")
        if not owns_cgroup(container_id, config):
            self._refuse_amounts(container_id, config.resources, config.limits)
            self._groups[container_id] = ()
            return
        groups = self._groups[container_id] = self._paths(container_id)
        for group in groups:
            made = cgroup.create(group, (self.unified_controllers or ()) if self.unified else ())
            if made is None and (pids := cgroup.processes(group, recursive=True)):
                raise ContainerError(
                    f"the cgroup {group} of container {container_id} holds processes already: {pids[0]}",
                    "choose another id, or another --cgroups_root",
                )
        self.set_up(container_id, groups)
        self.apply(container_id, groups, config.resources, config.limits)

    def _shown(self, groups: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """What a container is in, by the names that it has for that: those of controllers on v1."""
        if self.unified:
            return tuple((UNIFIED, group) for group in groups)
        found = zip(self.hierarchies, groups, strict=False)
        return tuple((name, group) for each, group in found for name in self.controllers if name in each.controllers)

    def joins(self, container_id: ContainerID) -> Sequence[str]:
        """On v1, the cgroups of the container, or of the closest one around it that has any."""
        return () if self.unified else self._nearest(container_id)

    async def isolate(self, container_id: ContainerID, pid: int) -> None:
        """On v2, moves the init into its cgroup, if the launcher has not cloned it there or below."""
        if not self.unified:
            return
        for hierarchy, group in zip(self.hierarchies, self._nearest(container_id), strict=False):
            # All controllers have the same cgroups, and the launcher too, which may have made more of them.
            if not f"{cgroup.membership(hierarchy, pid)}/".startswith(f"{group}/"):
                cgroup.create(f"{group}/{CGROUP_LEAF}")
                cgroup.assign(f"{group}/{CGROUP_LEAF}", pid)

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        """Writes the amounts that are given, and leaves the others."""
        if groups := self._known(container_id):
            self.apply(container_id, groups, resources, limits)
        else:
            self._refuse_amounts(container_id, resources, limits)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What is used of the container's own cgroup; nothing is known of one that shares its parent's."""
        groups = self._known(container_id)
        if not groups:
            return NO_STATISTICS
        with _reading(container_id, groups):
            return self.measure(container_id, groups)

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """What there is to tell of the container's cgroup, or of the closest one around it."""
        groups = self._nearest(container_id)
        if not groups:
            return NO_STATUS
        with _reading(container_id, groups):
            return self.describe(groups)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Removes the cgroup and all below it, within the flag cgroups_destroy_timeout."""
        # The path alone tells what to remove: `prepare` may have failed, or never have run.
        errors = []
        for group in self._paths(container_id):
            try:
                await cgroup.destroy(group, self.flags.cgroups_destroy_timeout)
            except OSError as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"{self.name()}: cannot remove the cgroups of container {container_id}", errors)
        self._groups.pop(container_id, None)

    def set_up(self, container_id: ContainerID, groups: tuple[str, ...]) -> None:
        """Writes what does not depend on amounts to new cgroups. Raises OSError, ContainerError."""

    def apply(
        self, container_id: ContainerID, groups: tuple[str, ...], resources: Resources, limits: Resources
    ) -> None:
        """Writes amounts, as far as they are given, to the control files. Raises OSError."""

    def measure(self, container_id: ContainerID, groups: tuple[str, ...]) -> ResourceStatistics:
        """Reads what is used from the control files. Raises OSError."""
        return NO_STATISTICS

    def describe(self, groups: tuple[str, ...]) -> ContainerStatus:
        """Reads what a container is from the control files. Raises OSError."""
        return NO_STATUS

    def group(self, container_id: ContainerID) -> str | None:
        """The first of the container's own cgroups. Raises UnknownContainerError."""
        return next(iter(self._known(container_id)), None)

    def _paths(self, container_id: ContainerID) -> tuple[str, ...]:
        names = self.flags.cgroups_root, container_id.cgroup
        return tuple(hierarchy.group(*names) for hierarchy in self.hierarchies)

    def _known(self, container_id: ContainerID) -> tuple[str, ...]:
        try:
            return self._groups[container_id]
        except KeyError:
            raise UnknownContainerError(f"{self.name()}: container {container_id} is unknown") from None

    def _nearest(self, container_id: ContainerID) -> tuple[str, ...]:
        """The cgroups of the container or of the closest one around it that has any."""
        around: ContainerID | None = container_id
        while around is not None:
            if groups := self._groups.get(around):
                return groups
            around = around.parent
        return ()

    def _refuse_amounts(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        if self.resource is None:
            return
        if getattr(resources, self.resource) is not None or getattr(limits, self.resource) is not None:
            raise ContainerError(
                f"container {container_id} cannot have {self.resource} of its own in the cgroup that it shares",
                "set linux_info.share_cgroups to false",
            )


@contextmanager
def _reading(container_id: ContainerID, groups: Sequence[str]) -> Iterator[None]:
    """Raises ContainerError where reading fails because the cgroups are gone."""
    try:
        yield
    except OSError as error:
        if any(map(cgroup.exists, groups)):
            raise
        raise ContainerError(f"container {container_id} has ended: its cgroup {groups[0]} is gone") from error


def _refuse_unusable(hierarchy: cgroup.Hierarchy, root: str, controllers: Sequence[str], name: str) -> None:
    """Raises UnsupportedError where no cgroup can be made, or none with the `controllers` of v2."""
    if not os.access(hierarchy.path, os.W_OK):
        raise UnsupportedError(
            f"{name} cannot make cgroups in {hierarchy.path}, which is read-only",
            f"mount it read-write, or leave {name} out of --isolation",
        )
    if hierarchy.version == 1:
        return
    names = root.strip("/").split("/")
    for depth in range(len(names) + 1):
        group = hierarchy.group(*names[:depth])
        # The root of the whole tree, which alone has no cgroup.type, may hold processes.
        if not cgroup.exists(group, "cgroup.type") or cgroup.enabled(group).issuperset(controllers):
            continue
        if pids := cgroup.processes(group):
            raise UnsupportedError(
                f"{name}: {group} holds processes itself ({pids[0]}), so that the cgroups below it get no"
                f" {' and '.join(controllers)} controller",
                f"move them to a cgroup below it first, or leave {name} out of --isolation",
            )
