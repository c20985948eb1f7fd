"""Where the cgroup file systems are mounted, and with which controllers (cgroups(7))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from mesocosm.dataclass import dataclass
from mesocosm.linux.cgroup import files

# Mount options of a cgroup v1 file system that are controllers (kernel: include/linux/cgroup_subsys.h).
_CONTROLLERS = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb"),
        *("memory", "misc", "net_cls", "net_prio", "perf_event", "pids", "rdma"),
    )
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A tree of cgroups with `controllers`, seen at `path` from its cgroup `root` on. `version` is 1 or 2."""

    controllers: frozenset[str]
    path: str
    version: int
    root: str = "/"

    def group(self, *names: object) -> str:
        """The directory of the cgroup whose path below the mount is `names`, joined."""
        return "/".join((self.path, *filter(None, (str(name).strip("/") for name in names))))


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """The hierarchies that were mounted at one time."""

    mounted: tuple[Hierarchy, ...]

    def of(self, controller: str) -> Hierarchy | None:
        """The hierarchy with `controller`: the one of cgroup v1 where it is mounted, else that of v2 if it has it."""
        having = (hierarchy for hierarchy in self.mounted if controller in hierarchy.controllers)
        return min(having, key=lambda hierarchy: hierarchy.version, default=None)

    def legacy(self, controller: str) -> Hierarchy | None:
        """The hierarchy of cgroup v1 with `controller`."""
        found = self.of(controller)
        return None if found is None or found.version == 2 else found

    @property
    def freezer(self) -> Hierarchy | None:
        """The freezer of cgroup v1. That of v2 is in every cgroup, and not a controller."""
        return self.of("freezer")

    @property
    def unified(self) -> Hierarchy | None:
        """The tree of cgroup v2, whatever controllers it has."""
        return next((hierarchy for hierarchy in self.mounted if hierarchy.version == 2), None)


@dataclass(frozen=True, slots=True)
class Mount:
    """What a line of mountinfo (proc_pid_mountinfo(5)) tells of a cgroup file system."""

    device: int
    root: str
    path: str
    version: int
    options: frozenset[str]


def hierarchies(root: str = "/sys/fs/cgroup") -> Hierarchies:
    """What is mounted at the directory `root` and below, now. None of it where there are no cgroups. Raises OSError."""
    try:
        with open("/proc/self/mountinfo") as mountinfo:
            mounts = _find(mountinfo.read(), os.path.realpath(root))
    except FileNotFoundError:  # Not Linux.
        mounts = ()
    return Hierarchies(tuple(found for mount in mounts if (found := _hierarchy(mount))))


@lru_cache(maxsize=1)  # Every isolator of a controller asks.
def _find(mountinfo: str, root: str) -> tuple[Mount, ...]:
    return tuple(mount for mount in parse(mountinfo) if _below(mount.path, root) and _visible(mount))


def hierarchy(controller: str, root: str = "/sys/fs/cgroup") -> Hierarchy | None:
    """The hierarchy with `controller` that is mounted at the directory `root` or below, now. Raises OSError."""
    return hierarchies(root).of(controller)


def parse(mountinfo: str) -> Iterator[Mount]:
    """The cgroup file systems in the text of a mountinfo."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in {"cgroup", "cgroup2"}:
            continue
        _, _, device, root, path, _ = before.split(" ", 5)
        major, minor = device.split(":")
        yield Mount(
            os.makedev(int(major), int(minor)),
            _unescape(root),
            _unescape(path),
            2 if kind == "cgroup2" else 1,
            frozenset(options.split(",")),
        )


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _visible(mount: Mount) -> bool:
    # Another mount may cover this one: what the path leads to tells.
    try:
        return Path(mount.path).stat().st_dev == mount.device
    except FileNotFoundError:
        return False


def _hierarchy(mount: Mount) -> Hierarchy | None:
    if mount.version == 2:
        return Hierarchy(available(mount.path), mount.path, 2, mount.root)
    controllers = mount.options & _CONTROLLERS
    # Without any it is a named hierarchy, such as that of systemd.
    return Hierarchy(controllers, mount.path, 1, mount.root) if controllers else None


def available(group: str) -> frozenset[str]:
    """The controllers that a cgroup of v2 has. Raises OSError."""
    return frozenset(files.read(group, "cgroup.controllers").split())


def enabled(group: str) -> frozenset[str]:
    """The controllers that a cgroup of v2 gives to its children. Raises OSError."""
    return frozenset(files.read(group, "cgroup.subtree_control").split())


def membership(hierarchy: Hierarchy, pid: int) -> str:
    """The directory of the cgroup that a process is in (proc_pid_cgroup(5)). Raises OSError, LookupError."""
    with open(f"/proc/{pid}/cgroup") as lines:
        return parse_membership(hierarchy, lines.read())


def parse_membership(hierarchy: Hierarchy, text: str) -> str:
    """The directory of the cgroup of `hierarchy` that `text`, of a /proc/PID/cgroup, names. Raises LookupError."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found = not controllers if hierarchy.version == 2 else hierarchy.controllers & set(controllers.split(","))
        if found:
            return hierarchy.group(path.removeprefix(hierarchy.root.rstrip("/")))
    raise LookupError(f"no cgroup of {hierarchy.path} in {text!r}")
