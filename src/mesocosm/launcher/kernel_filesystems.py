"""/proc, /sys and /dev of a container with a root filesystem of its own, hidden or read-only where they show the host.

The same devices as in Mesos, runc and crun; of masked and read-only paths those of Docker, which has the most.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

from mesocosm.dataclass import dataclass
from mesocosm.launcher.operations import Operation, Root
from mesocosm.linux import mount
from mesocosm.linux.mount import Attribute
from mesocosm.linux.path import make_directory, open_in_root

_KERNEL = Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.NO_EXECUTE
_TERMINAL = Attribute.NO_SUID | Attribute.NO_EXECUTE

_MASKED = (
    *("acpi", "asound", "interrupts", "kcore", "key-users", "keys", "latency_stats", "sched_debug", "scsi"),
    *("timer_list", "timer_stats"),
)
# Counts of interrupts and throttling, and the energy used, tell what others do (CVE-2020-8694).
_THROTTLING = "devices/system/cpu/cpu%d/thermal_throttle"
_MASKED_IN_SYS = (
    *("firmware", "devices/virtual/powercap"),
    # Every CPU has one, or none has, as the first lookup tells. Not when a container waits for it.
    *(_THROTTLING % number for number in range(os.cpu_count() or 0) if os.path.isdir(f"/sys/{_THROTTLING % 0}")),
)
_PROTECTED = ("bus", "fs", "irq", "sys", "sysrq-trigger")

_NODES = (
    *(("full", 1, 7), ("null", 1, 3), ("random", 1, 8)),
    *(("tty", 5, 0), ("urandom", 1, 9), ("zero", 1, 5)),
)
_LINKS = (
    *(("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1")),
    *(("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"), ("core", "/proc/kcore")),
)
_DIRECTORIES = (("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o755))
_DEVICES_OPTIONS = (("mode", "755"), ("size", "65536k"))
# Without gid 5, the group `tty` everywhere, grantpt(3) would need a privileged helper.
_TERMINALS_OPTIONS = (("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"))


@dataclass(frozen=True, slots=True)
class KernelFilesystems(Operation):
    """Mounts a new /proc, a read-only /sys, and a /dev of harmless devices with terminals of its own."""

    def prepare(self) -> tuple[int, ...]:
        """Creates them, with all that is mounted inside where the kernel mounts on a detached tree (Linux 6.15)."""
        trees: list[int] = []
        try:
            trees.append(mount.create("proc", (), _KERNEL))
            trees.append(mount.create("sysfs", (), _KERNEL | Attribute.READ_ONLY))
            trees.append(_create_devices())
            terminals = mount.create("devpts", _TERMINALS_OPTIONS, _TERMINAL)
            try:
                _attach(terminals, trees[-1], "pts")
            except OSError as error:
                trees.append(terminals)
                if error.errno != errno.EINVAL:
                    raise
            else:
                os.close(terminals)
                _restrict(trees)
        except BaseException:
            _close(trees)
            raise
        return tuple(trees)

    def apply(self, root: Root) -> None:
        """Mounts them, on targets that are looked up now."""
        trees = root.trees_of(self)
        try:
            for tree, target in zip(trees, ("/proc", "/sys", "/dev"), strict=False):
                directory = make_directory(root.descriptor, target)
                try:
                    mount.attach(tree, directory)
                finally:
                    os.close(directory)
            if len(trees) > 3:
                _attach(trees[3], trees[2], "pts")
                _restrict(trees)
        finally:
            _close(trees)

    def __str__(self) -> str:
        return "mount /proc, /sys and /dev"


@dataclass(frozen=True, slots=True)
class CgroupMounts(Operation):
    """Shows the container its cgroups, read-only, in /sys/fs/cgroup: directories of the host, by their names there.

    Where `UNIFIED` is all there is, it is /sys/fs/cgroup itself, as on a host with cgroup v2 alone.
    """

    groups: tuple[tuple[str, str], ...]

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.groups)

    @property
    def likeness(self) -> object:
        """The names: other containers have other groups."""
        return CgroupMounts, self._names

    def prepare(self) -> tuple[int, ...]:
        """Creates a directory of memory with one for each group; nothing for `UNIFIED`, which is mounted itself."""
        if self._names == (UNIFIED,):
            return ()
        trees = [mount.create("tmpfs", _CGROUPS_OPTIONS)]
        try:
            for name in self._names:
                os.mkdir(name, dir_fd=trees[0])
                trees.append(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=trees[0]))
        except BaseException:
            _close(trees)
            raise
        return tuple(trees)

    def apply(self, root: Root) -> None:
        """Mounts them, on a target that is looked up now."""
        tree, *directories = root.trees_of(self) or (mount.clone_tree(self.groups[0][1], recursive=False),)
        try:
            _attach(tree, root.descriptor, "/sys/fs/cgroup")
            for (_, group), directory in zip(self.groups, directories, strict=False):
                _attach_group(group, directory)
            mount.change(tree, _KERNEL | Attribute.READ_ONLY)  # Of all at once.
        finally:
            _close((tree, *directories))

    def __str__(self) -> str:
        return "mount the container's cgroups"


UNIFIED = "unified"
_CGROUPS_OPTIONS = (("size", "4k"), ("mode", "755"))


def _attach_group(group: str, directory: int) -> None:
    tree = mount.clone_tree(group, recursive=False)
    try:
        mount.attach(tree, directory)
    finally:
        os.close(tree)


def _create_devices() -> int:
    """A detached tmpfs with device nodes for everybody to read and write, links, and directories."""
    tree = mount.create("tmpfs", _DEVICES_OPTIONS, _TERMINAL | Attribute.STRICT_ACCESS_TIME)
    try:
        for name, major, minor in _NODES:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=tree)
        for name, points_to in _LINKS:
            os.symlink(points_to, name, dir_fd=tree)
        for name, mode in _DIRECTORIES:
            os.mkdir(name, mode, dir_fd=tree)
    except OSError:
        os.close(tree)
        raise
    return tree


def _restrict(trees: Sequence[int]) -> None:
    """Keeps the container from what in /proc and /sys is about the host."""
    proc, sys, *_ = trees
    empty = mount.create("tmpfs", (("mode", "555"),), Attribute.READ_ONLY)
    try:
        attached = _mask(proc, _MASKED, empty, attached=False)
        _mask(sys, _MASKED_IN_SYS, empty, attached=attached)
    finally:
        os.close(empty)
    for target in _existing(proc, _PROTECTED):
        tree = mount.clone_tree("", target)
        try:
            mount.change(tree, _KERNEL | Attribute.READ_ONLY)
            mount.attach(tree, target)
        finally:
            os.close(tree)


def _mask(tree: int, paths: Sequence[str], empty: int, *, attached: bool) -> bool:
    """Hides files behind /dev/null, and directories behind the `empty` one; whether that is `attached` by now.

    Only what is mounted somewhere can be copied, so the first directory gets the original.
    """
    for target in _existing(tree, paths):
        if stat.S_ISDIR(os.fstat(target).st_mode) and not attached:
            mount.attach(empty, target)
            attached = True
            continue
        directory = stat.S_ISDIR(os.fstat(target).st_mode)
        cover = (
            mount.clone_tree("", empty, recursive=False) if directory else mount.clone_tree(os.devnull, recursive=False)
        )
        try:
            mount.attach(cover, target)
        finally:
            os.close(cover)
    return attached


def _existing(tree: int, paths: Sequence[str]) -> Iterator[int]:
    """Those of `paths` that this kernel has, as descriptors."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            target = open_in_root(tree, path)
            try:
                yield target
            finally:
                os.close(target)


def _attach(tree: int, top: int, target: str) -> None:
    descriptor = open_in_root(top, target)
    try:
        mount.attach(tree, descriptor)
    finally:
        os.close(descriptor)


def _close(trees: Sequence[int]) -> None:
    for tree in trees:
        os.close(tree)
