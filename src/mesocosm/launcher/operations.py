"""The changes of a launch, mostly of the file system: small values, each with one `apply` and a one-line `str`.

They are applied in the container's own mount namespace, by its init, before the root directory is changed. A target
is a path as the container will see it. It is looked up from the container's root and never leaves that, whatever
symbolic links are in the way (openat2(2), RESOLVE_IN_ROOT). The umask is 0.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from mesocosm.dataclass import dataclass, field
from mesocosm.linux import mount, network, overlay
from mesocosm.linux.mount import Attribute, Propagation
from mesocosm.linux.path import Permissions, make_directory, make_file, open_in_root

StrPath = str | os.PathLike[str]


@dataclass(slots=True)
class Root:
    """What the operations work on: the container's root as an O_PATH descriptor, and detached trees for later.

    `shared` are those that TakeShared took, by their source; `prepared` those that were created in advance, by the
    likeness of their operations. `owner` is whose what is made for the container's user alone is.
    """

    descriptor: int
    owner: tuple[int, int] = (0, 0)
    shared: dict[str, list[int]] = field(default_factory=dict)
    prepared: dict[object, tuple[int, ...]] = field(default_factory=dict)

    def trees_of(self, operation: Operation) -> tuple[int, ...]:
        """The trees of `operation`, made in advance or now, which are the caller's to close. Raises OSError."""
        return self.prepared.pop(operation.likeness, ()) or operation.prepare()

    def close(self) -> None:
        """Closes every descriptor."""
        kept = itertools.chain(*self.shared.values(), *self.prepared.values())
        for descriptor in (self.descriptor, *kept):
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class HostDirectory:
    """A directory of the host that paths are looked up in, and never leave.

    No container can change what `directory` leads to. With `inside` it is the one of that path in there, such as the
    sandbox of a nested container, which is in its parent's.
    """

    directory: str
    inside: str = ""

    def open(self) -> int:
        """The directory as an O_PATH descriptor. Raises OSError."""
        top = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not self.inside:
            return top
        try:
            return open_in_root(top, self.inside, os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(top)

    def __str__(self) -> str:
        return f"{self.directory}/{self.inside}" if self.inside else self.directory


class Operation:
    """One change. `apply` raises OSError."""

    __slots__ = ()

    def prepare(self) -> tuple[int, ...]:
        """Detached trees with what can be created before the container's root is known. Raises OSError."""
        return ()

    def apply(self, root: Root) -> None:
        """Makes the change, below `root`."""
        raise NotImplementedError

    @property
    def likeness(self) -> object:
        """Equal for operations that can use what the other has prepared."""
        return self

    @property
    def place(self) -> str:
        """The path of what it mounts, if it does."""
        return "/"


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
class RaiseLoopback(Operation):
    """Sets the loopback interface of a new network namespace up."""

    def apply(self, root: Root) -> None:
        """Sets it up."""
        network.raise_loopback()

    def __str__(self) -> str:
        return "set the loopback interface up"


@dataclass(frozen=True, slots=True)
class MountOverlay(Operation):
    """Mounts an overlay on the directory `path` of the host, where only this mount namespace has it.

    `layers` are directories, the lowest first; `upper` takes the changes, and `work` belongs to the kernel.
    """

    path: str
    layers: tuple[str, ...]
    upper: str
    work: str

    @classmethod
    def on(cls, path: StrPath, layers: Iterable[StrPath], upper: StrPath, work: StrPath) -> MountOverlay:
        """The same, of paths of any kind."""
        return cls(os.fspath(path), tuple(os.fspath(layer) for layer in layers), os.fspath(upper), os.fspath(work))

    def apply(self, root: Root) -> None:
        """Mounts it."""
        overlay.mount(self.path, self.layers, self.upper, self.work)

    def __str__(self) -> str:
        return f"mount an overlay of {len(self.layers)} layers on {self.path}"


@dataclass(frozen=True, slots=True)
class RootFilesystem(Operation):
    """Makes the directory `path` of the host the root that the following operations work on, and `attributes` hold for.

    Where it is read-only by those, no mount points can be made in it either.
    """

    path: str
    attributes: Attribute = Attribute.NONE

    def apply(self, root: Root) -> None:
        """Mounts the directory on itself, as pivot_root(2) wants a mount."""
        directory = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            tree = mount.clone_tree("", directory)
            if self.attributes:
                mount.change(tree, self.attributes)
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
    missing; it gets the owner of that directory, or the `permissions`. With `target_within`, the target is looked up
    there. A missing target is made if `create`.
    """

    source: str
    target: str
    read_only: bool = False
    propagation: Propagation = Propagation.PRIVATE
    create: bool = False
    within: HostDirectory | None = None
    target_within: HostDirectory | None = None
    permissions: Permissions | None = None
    attributes: Attribute = Attribute.NONE

    def apply(self, root: Root) -> None:
        """Mounts the tree."""
        tree = self._tree(root)
        try:
            attributes = self.attributes | (Attribute.READ_ONLY if self.read_only else Attribute.NONE)
            mount.change(tree, attributes, self.propagation)
            make = make_directory if stat.S_ISDIR(os.fstat(tree).st_mode) else make_file
            with _directory(root, self.target_within) as top:
                _attach(tree, top, self.target, make if self.create else open_in_root)
        finally:
            os.close(tree)

    def _tree(self, root: Root) -> int:
        if self.propagation is Propagation.UNCHANGED and (taken := root.shared.get(self.source)):
            return taken.pop()
        if self.within is None:
            return mount.clone_tree(self.source)
        with _directory(root, self.within) as top:
            source = make_directory(top, self.source, permissions=self.permissions or Permissions.like(top))
        try:
            return mount.clone_tree("", source)
        finally:
            os.close(source)

    @property
    def place(self) -> str:
        """The whole path of the target."""
        return _whole(self.target_within, self.target)

    def __str__(self) -> str:
        return f"bind {_whole(self.within, self.source)} on {self.target}{' read-only' if self.read_only else ''}"


@dataclass(frozen=True, slots=True)
class HostFile(Operation):
    """Shows the file of the host at `path`, read-only, at the same path of the container, made there if missing."""

    path: str

    def prepare(self) -> tuple[int, ...]:
        """Takes a copy of its mount, which is no use any more once the path leads to another file."""
        tree = mount.clone_tree(self.path)
        try:
            mount.change(tree, Attribute.READ_ONLY, Propagation.PRIVATE)
        except BaseException:
            os.close(tree)
            raise
        return (tree,)

    def apply(self, root: Root) -> None:
        """Mounts it, on a target that is looked up now."""
        tree = self._tree(root)
        try:
            _attach(tree, root.descriptor, self.path, make_file)
        finally:
            os.close(tree)

    def _tree(self, root: Root) -> int:
        (tree,) = root.trees_of(self)
        try:
            if os.path.samestat(os.fstat(tree), os.stat(self.path)):
                return tree
        except BaseException:
            os.close(tree)
            raise
        os.close(tree)
        return self.prepare()[0]

    @property
    def place(self) -> str:
        """The path, which is that of the target, too."""
        return self.path

    def __str__(self) -> str:
        return f"show the host's {self.path}"


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
    target_within: HostDirectory | None = None

    def prepare(self) -> tuple[int, ...]:
        """Creates the file system."""
        return (mount.create(self.filesystem, self.options, self.attributes),)

    def apply(self, root: Root) -> None:
        """Mounts it, on a target that is looked up now."""
        (tree,) = root.trees_of(self)
        try:
            with _directory(root, self.target_within) as top:
                _attach(tree, top, self.target, make_directory if self.create else open_in_root)
        finally:
            os.close(tree)

    @property
    def place(self) -> str:
        """The whole path of the target."""
        return _whole(self.target_within, self.target)

    def __str__(self) -> str:
        return f"mount {self.filesystem} on {self.target}"


@dataclass(frozen=True, slots=True)
class SecretFile(Operation):
    """Makes a file with `data` at `target`, for the container's user alone, in a ramfs: it is never on a disk."""

    data: bytes = field(repr=False)
    target: str
    read_only: bool = False
    create: bool = False
    target_within: HostDirectory | None = None

    def apply(self, root: Root) -> None:
        """Mounts the file."""
        tree = self._file(root)
        try:
            if self.read_only:
                mount.change(tree, Attribute.READ_ONLY)
            with _directory(root, self.target_within) as top:
                _attach(tree, top, self.target, make_file if self.create else open_in_root)
        finally:
            os.close(tree)

    def _file(self, root: Root) -> int:
        """A mount of a new file alone. Before Linux 6.15 only what is mounted somewhere can be copied."""
        memory = mount.create("ramfs", (("mode", "700"),), _HARMLESS)
        try:
            self._write(memory, root)
            mount.attach(memory, root.descriptor)
            try:
                file = os.open(_SECRET, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=memory)
                try:
                    return mount.clone_tree("", file)
                finally:
                    os.close(file)
            finally:
                mount.unmount_open(memory)
        finally:
            os.close(memory)

    def _write(self, directory: int, root: Root) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(_SECRET, flags, 0o600, dir_fd=directory), "wb", buffering=0) as file:
            file.write(self.data)
            os.fchown(file.fileno(), *root.owner)
            os.fchmod(file.fileno(), 0o400 if self.read_only else 0o600)

    @property
    def place(self) -> str:
        """The whole path of the target."""
        return _whole(self.target_within, self.target)

    def __str__(self) -> str:
        return f"secret on {self.target}"


_SECRET = "secret"
_HARMLESS = Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.NO_EXECUTE


def _whole(within: HostDirectory | None, path: str) -> str:
    return path if within is None else f"{within}/{path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class DeviceNode(Operation):
    """Makes the device MAJOR:MINOR at `path`, in place of what is there, with the permissions `mode`."""

    path: str
    block: bool
    mode: int
    major: int
    minor: int

    def apply(self, root: Root) -> None:
        """Makes the node, and the directory it is in."""
        directory, _, name = self.path.rpartition("/")
        parent = make_directory(root.descriptor, directory)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            kind = stat.S_IFBLK if self.block else stat.S_IFCHR
            os.mknod(name, kind | self.mode, os.makedev(self.major, self.minor), dir_fd=parent)
        finally:
            os.close(parent)

    def __str__(self) -> str:
        return f"make the device {self.path}"


def _attach(tree: int, top: int, target: str, find: Callable[[int, str], int]) -> None:
    descriptor = find(top, target)
    try:
        _check_kinds(tree, descriptor, target)
        mount.attach(tree, descriptor)
    finally:
        os.close(descriptor)


def _check_kinds(tree: int, target: int, path: str) -> None:
    """Raises OSError with `path` for a directory on a file, or a file on a directory: the kernel just says EINVAL."""
    is_directory, on_directory = (stat.S_ISDIR(os.fstat(descriptor).st_mode) for descriptor in (tree, target))
    if is_directory != on_directory:
        code = errno.ENOTDIR if is_directory else errno.EISDIR
        raise OSError(code, os.strerror(code), path)


@contextlib.contextmanager
def _directory(root: Root, within: HostDirectory | None) -> Iterator[int]:
    """Where a path is looked up: the container's root, or a directory of the host."""
    if within is None:
        yield root.descriptor
        return
    descriptor = within.open()
    try:
        yield descriptor
    finally:
        os.close(descriptor)
