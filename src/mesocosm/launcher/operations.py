"""The file system changes of a launch: small values, each with one `apply` and a one-line `str`.

They are applied in the container's own mount namespace, by its init, before the root directory is changed. A target
is a path as the container will see it. It is looked up from the container's root and never leaves that, whatever
symbolic links are in the way (openat2(2), RESOLVE_IN_ROOT). The umask is 0.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mesocosm.linux import mount
from mesocosm.linux.mount import Attribute, Propagation
from mesocosm.linux.path import make_directory, make_file, open_in_root


@dataclass(slots=True)
class Root:
    """What the operations work on: the container's root as an O_PATH descriptor, and detached trees for later.

    `shared` are those that TakeShared took, by their source; `prepared` those that were created in advance.
    """

    descriptor: int
    shared: dict[str, list[int]] = field(default_factory=dict)
    prepared: dict[Operation, int] = field(default_factory=dict)

    def close(self) -> None:
        """Closes every descriptor."""
        for descriptor in (self.descriptor, *itertools.chain(*self.shared.values()), *self.prepared.values()):
            os.close(descriptor)


class Operation:
    """One change. `apply` raises OSError."""

    __slots__ = ()

    def prepare(self) -> int | None:
        """A detached tree with what can be created before the container's root is known; None if there is nothing."""
        return None

    def apply(self, root: Root) -> None:
        """Makes the change, below `root`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TakeShared(Operation):
    """Takes a copy of the host's mount at `source` while it still is a peer of it, for a Bind that needs it so."""

    source: str

    def apply(self, root: Root) -> None:
        """Keeps the tree for the Bind."""
        root.shared.setdefault(self.source, []).append(mount.clone_tree(self.source))

    def __str__(self) -> str:
        return f"take {self.source} as a shared mount"


@dataclass(frozen=True, slots=True)
class ReceiveMounts(Operation):
    """Makes every mount a slave: those made on the host still arrive, none made in the container leaves."""

    def apply(self, root: Root) -> None:
        """Changes all mounts of the namespace."""
        tree = open_in_root(root.descriptor, "/")
        try:
            mount.change(tree, propagation=Propagation.SLAVE)
        finally:
            os.close(tree)

    def __str__(self) -> str:
        return "make all mounts slaves"


@dataclass(frozen=True, slots=True)
class RootFilesystem(Operation):
    """Makes the directory `path` of the host the root that the following operations work on."""

    path: str

    def apply(self, root: Root) -> None:
        """Mounts the directory on itself, as pivot_root(2) wants a mount."""
        directory = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            tree = mount.clone_tree("", directory)
            mount.attach(tree, directory)
        finally:
            os.close(directory)
        os.close(root.descriptor)
        root.descriptor = tree

    def __str__(self) -> str:
        return f"root filesystem {self.path}"


@dataclass(frozen=True, slots=True)
class Bind(Operation):
    """Makes the host's file or directory `source` visible at `target`, with everything mounted below it.

    With `within`, the source is looked up inside that directory of the host, and made there as a directory if it is
    missing. With `target_within`, the target is. A missing target is made if `create`.
    """

    source: str
    target: str
    read_only: bool = False
    propagation: Propagation = Propagation.PRIVATE
    create: bool = False
    within: str | None = None
    target_within: str | None = None

    def apply(self, root: Root) -> None:
        """Mounts the tree."""
        tree = self._tree(root)
        try:
            attributes = Attribute.READ_ONLY if self.read_only else Attribute.NONE
            mount.change(tree, attributes, self.propagation)
            make = make_directory if stat.S_ISDIR(os.fstat(tree).st_mode) else make_file
            with _directory(root, self.target_within) as top:
                _attach(tree, top, self.target, make if self.create else open_in_root)
        finally:
            os.close(tree)

    def _tree(self, root: Root) -> int:
        if taken := root.shared.get(self.source):
            return taken.pop()
        if self.within is None:
            return mount.clone_tree(self.source)
        with _directory(root, self.within) as top:
            source = make_directory(top, self.source)
        try:
            return mount.clone_tree("", source)
        finally:
            os.close(source)

    def __str__(self) -> str:
        return f"bind {self.source} on {self.target}{' read-only' if self.read_only else ''}"


@dataclass(frozen=True, slots=True)
class Mount(Operation):
    """Mounts a new `filesystem` at `target`, which is made if `create`. An option without a value is a flag.

    With `target_within`, the target is looked up inside that directory of the host.
    """

    filesystem: str
    target: str
    attributes: Attribute = Attribute.NONE
    options: tuple[tuple[str, str | None], ...] = ()
    create: bool = False
    target_within: str | None = None

    def prepare(self) -> int | None:
        """Creates the file system."""
        return mount.create(self.filesystem, self.options, self.attributes)

    def apply(self, root: Root) -> None:
        """Mounts it, on a target that is looked up now."""
        _mount(self, root, self.target, self.create, self.target_within)

    def __str__(self) -> str:
        return f"mount {self.filesystem} on {self.target}"


@dataclass(frozen=True, slots=True)
class MountDevices(Operation):
    """Mounts a tmpfs at /dev with device nodes for everybody to read and write, links, and directories.

    Nodes are name, major and minor number; links are name and what it points to; directories are name and mode.
    """

    nodes: tuple[tuple[str, int, int], ...]
    links: tuple[tuple[str, str], ...]
    directories: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, str | None], ...]

    def prepare(self) -> int | None:
        """Creates the file system with all that is in it."""
        attributes = Attribute.NO_SUID | Attribute.NO_EXECUTE | Attribute.STRICT_ACCESS_TIME
        tree = mount.create("tmpfs", self.options, attributes)
        try:
            for name, major, minor in self.nodes:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=tree)
            for name, points_to in self.links:
                os.symlink(points_to, name, dir_fd=tree)
            for name, mode in self.directories:
                os.mkdir(name, mode, dir_fd=tree)
        except OSError:
            os.close(tree)
            raise
        return tree

    def apply(self, root: Root) -> None:
        """Mounts it."""
        _mount(self, root, "/dev", create=True)

    def __str__(self) -> str:
        return "mount /dev"


@dataclass(frozen=True, slots=True)
class Protect(Operation):
    """Makes the kernel's files at `paths` read-only; those that this kernel does not have are skipped."""

    paths: tuple[str, ...]

    def apply(self, root: Root) -> None:
        """Mounts each on itself, read-only."""
        attributes = Attribute.READ_ONLY | Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.NO_EXECUTE
        for target in _existing(root, self.paths):
            tree = mount.clone_tree("", target)
            try:
                mount.change(tree, attributes)
                mount.attach(tree, target)
            finally:
                os.close(tree)

    def __str__(self) -> str:
        return f"make read-only {' '.join(self.paths)}"


@dataclass(frozen=True, slots=True)
class Mask(Operation):
    """Hides the kernel's files at `paths` behind /dev/null, and directories behind an empty one."""

    paths: tuple[str, ...]

    def prepare(self) -> int | None:
        """Creates the empty directory."""
        return mount.create("tmpfs", (("mode", "555"),), Attribute.READ_ONLY)

    def apply(self, root: Root) -> None:
        """Covers each path that exists."""
        empty = _prepared(self, root)
        attached = False
        try:
            for target in _existing(root, self.paths):
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    _cover(target, mount.clone_tree("/dev/null", recursive=False))
                elif attached:
                    _cover(target, mount.clone_tree("", empty, recursive=False))
                else:
                    mount.attach(empty, target)  # Only what is mounted somewhere can be copied.
                    attached = True
        finally:
            os.close(empty)

    def __str__(self) -> str:
        return f"mask {' '.join(self.paths)}"


def _cover(target: int, tree: int) -> None:
    try:
        mount.attach(tree, target)
    finally:
        os.close(tree)


def _prepared(operation: Operation, root: Root) -> int:
    """The tree of `operation`, made in advance or now."""
    tree = root.prepared.pop(operation) if operation in root.prepared else operation.prepare()
    assert tree is not None
    return tree


def _mount(operation: Operation, root: Root, target: str, create: bool, within: str | None = None) -> None:
    tree = _prepared(operation, root)
    try:
        with _directory(root, within) as top:
            _attach(tree, top, target, make_directory if create else open_in_root)
    finally:
        os.close(tree)


def _attach(tree: int, top: int, target: str, find: Callable[[int, str], int]) -> None:
    descriptor = find(top, target)
    try:
        mount.attach(tree, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _directory(root: Root, within: str | None) -> Iterator[int]:
    """Where a path is looked up: the container's root, or a directory of the host."""
    if within is None:
        yield root.descriptor
        return
    descriptor = os.open(within, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _existing(root: Root, paths: tuple[str, ...]) -> Iterator[int]:
    for path in paths:
        try:
            target = open_in_root(root.descriptor, path)
        except FileNotFoundError:
            continue
        try:
            yield target
        finally:
            os.close(target)
