"""Making the files of a layer below a directory, out of which nothing leads: not for an archive that is hostile.

Directories are looked up by openat2(2) as if that directory were `/`, so links on the way are followed within it, as
they would be in the container. Everything else is done in the directory found, by a name that is not followed.

Whiteouts become those of overlayfs (kernel: filesystems/overlayfs.rst), as this layer is not alone: a device 0/0 hides
what lower layers have, and `trusted.overlay.opaque` on a directory all that they have in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from mesocosm.images.errors import ImageError
from mesocosm.images.extraction.headers import Kind, Member
from mesocosm.linux.layers import OPAQUE, is_whiteout
from mesocosm.linux.path import open_in_root
from mesocosm.linux.tree import remove_tree

_WHITEOUT, _OPAQUE_DIRECTORY, _SPECIAL = b".wh.", b".wh..wh..opq", b".wh..wh."
_IGNORED_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux", "system.nfs4_acl")
"""What would have a meaning for the mount of the layer, or belongs to the host that the image was made on."""
_LARGEST_ID = 2**32 - 2
"""The next one means "leave it as it is" to chown(2)."""
_MOST_LINKS = 8
"""Links to links that lead nowhere."""
_MOST_OPEN = 64
"""Directories that are kept open."""

_TYPES = {
    Kind.FIFO: stat.S_IFIFO,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Result = TypeVar("Result")
Data = Callable[[Member, int], None]
"""Writes the data of a member to an open file."""


class Tree:
    """The layer in the directory `root`, an open descriptor of an empty one, which stays the caller's.

    Methods raise ImageError for a member that is hostile, and OSError.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        self.implied: set[bytes] = {b""}
        """Directories, by path, that have something in them, but are no members themselves. The root is b""."""
        self.opaque = False
        """Whether the root is opaque. Overlayfs does not look at that of a root."""
        self.size = 0
        """Bytes of the files."""

    def add(self, member: Member, data: Data) -> None:
        """Makes what `member` is."""
        parts = _parts(member.name, member)
        if not parts:
            if member.kind is not Kind.DIRECTORY:
                raise ImageError(f"{member} would take the place of the root")
            self._give(self._root, b"", member)
            return
        place = _Place(self._enter(b"/".join(parts[:-1]), member), parts[-1], b"/".join(parts))
        if place.name.startswith(_WHITEOUT):
            with _telling_of_overlayfs(member):
                self._hide(place, member)
        elif member.kind is Kind.DIRECTORY:
            self._directory(place, member)
        elif member.kind is Kind.FILE:
            self._file(place, member, data)
        elif member.kind is Kind.HARD_LINK:
            self._hard_link(place, member)
        else:
            self._special(place, member)

    def finish(self) -> None:
        """Gives directories their times, which all that happens in them changes."""
        for path, time in self._times.items():
            above, _, name = path.rpartition(b"/")
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # A link led to it that is gone.
                _set_time(name or b".", time, dir_fd=self._lookup(above), follow_symlinks=False)

    def close(self) -> None:
        """Closes the directories that it has opened."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _directory(self, place: _Place, member: Member) -> None:
        try:
            os.mkdir(place.name, 0o755, dir_fd=place.parent)
        except FileExistsError:
            found = place.stat()
            if not stat.S_ISDIR(found.st_mode):
                self._remove(place)
                os.mkdir(place.name, 0o755, dir_fd=place.parent)
                if is_whiteout(found):
                    place.make_opaque()
        self._give(self._lookup(place.path), place.path, member)

    def _give(self, directory: int, path: bytes, member: Member) -> None:
        """Gives a directory the attributes of its member, and later its time."""
        os.fchown(directory, *_owner(member))
        os.fchmod(directory, member.mode)
        _set_xattrs(directory, member)
        self._times[path] = member.mtime
        self.implied.discard(path)

    def _file(self, place: _Place, member: Member, data: Data) -> None:
        owner = _owner(member)
        descriptor = self._put(place, lambda: os.open(place.name, _NEW_FILE, 0o600, dir_fd=place.parent))
        try:
            if member.size:
                data(member, descriptor)
            # The owner first: to change it takes the set-id bits and capabilities away.
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, member.mode)
            if member.xattrs:
                _set_xattrs(descriptor, member)
            _set_time(descriptor, member.mtime)
        finally:
            os.close(descriptor)
        self.size += member.size

    def _hard_link(self, place: _Place, member: Member) -> None:
        target = _parts(member.link, member)
        if b"/".join(target) == place.path:
            return
        try:
            source = self._lookup(b"/".join(target[:-1]))
            self._put(place, lambda: _link(source, target[-1] if target else b".", place))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.ELOOP):
                raise
            raise ImageError(
                f"{member} is a hard link to {os.fsdecode(member.link)!r}, which is no file of the same layer"
            ) from error

    def _special(self, place: _Place, member: Member) -> None:
        """Makes a symbolic link, a fifo or a device."""
        owner = _owner(member)
        if member.kind is Kind.SYMLINK:
            self._put(place, lambda: os.symlink(member.link, place.name, dir_fd=place.parent))
        else:
            mode, device = _TYPES[member.kind] | 0o600, _device(member)
            self._put(place, lambda: os.mknod(place.name, mode, device, dir_fd=place.parent))
        os.chown(place.name, *owner, dir_fd=place.parent, follow_symlinks=False)
        if member.kind is not Kind.SYMLINK:
            # By a name that is followed, for want of another call; but it is that of what was made just now.
            os.chmod(place.name, member.mode, dir_fd=place.parent)
        if member.xattrs:
            _set_xattrs(b"/proc/self/fd/%d/%s" % (place.parent, place.name), member)
        _set_time(place.name, member.mtime, dir_fd=place.parent, follow_symlinks=False)

    def _hide(self, place: _Place, member: Member) -> None:
        """Hides what lower layers have, and nothing of this one, whether that comes before or after."""
        if place.name == _OPAQUE_DIRECTORY:
            self.opaque |= place.path == place.name
            os.setxattr(place.parent, OPAQUE, b"y")
            return
        if place.name.startswith(_SPECIAL):
            return  # AUFS kept that for itself.
        hidden = place.beside(place.name.removeprefix(_WHITEOUT))
        if hidden.name in (b"", b".", b".."):
            raise ImageError(f"{member} is a whiteout of no file")
        try:
            os.mknod(hidden.name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=hidden.parent)
        except FileExistsError:
            if stat.S_ISDIR(hidden.stat().st_mode):
                hidden.make_opaque()

    def _put(self, place: _Place, make: Callable[[], Result]) -> Result:
        """Makes something, in the place of whatever there is."""
        try:
            return make()
        except FileExistsError:
            self._remove(place)
            return make()

    def _remove(self, place: _Place) -> None:
        found = place.stat()
        for _ in remove_tree(place.parent, os.fsdecode(place.name)):
            pass
        if stat.S_ISDIR(found.st_mode):
            self._forget(place.path)
        if not stat.S_ISREG(found.st_mode):
            # Of the directories that are open, any may have been found by way of it, but for the one it was in.
            for path in [path for path, descriptor in self._open.items() if descriptor != place.parent]:
                os.close(self._open.pop(path))

    def _forget(self, path: bytes) -> None:
        below = path + b"/"
        for gone in [known for known in (*self._times, *self.implied) if known == path or known.startswith(below)]:
            self._times.pop(gone, None)
            self.implied.discard(gone)

    def _enter(self, path: bytes, member: Member, links: int = 0) -> int:
        """The directory at `path`, made with those above it where missing, after so many links that led nowhere."""
        try:
            return self._lookup(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        current, done = self._root, b""
        for name in path.split(b"/"):
            done = done + b"/" + name if done else name
            try:
                current = self._lookup(done)
            except (FileNotFoundError, NotADirectoryError):
                self._imply(_Place(current, name, done), member, links)
                try:
                    current = self._lookup(done)
                except (FileNotFoundError, NotADirectoryError):
                    raise _in_the_way(done, member) from None
        return current

    def _imply(self, place: _Place, member: Member, links: int) -> None:
        """Makes a directory; if there is a link, the one that it leads to, as that may be further on in the archive."""
        try:
            os.mkdir(place.name, 0o755, dir_fd=place.parent)
        except FileExistsError:
            found = place.stat()
            if stat.S_ISLNK(found.st_mode) and links < _MOST_LINKS:
                target = os.readlink(place.name, dir_fd=place.parent)
                above = place.path.rpartition(b"/")[0]
                self._enter(posixpath.normpath(posixpath.join(b"/", above, target)).strip(b"/"), member, links + 1)
                return
            if not is_whiteout(found):
                raise _in_the_way(place.path, member) from None
            self._remove(place)
            os.mkdir(place.name, 0o755, dir_fd=place.parent)
            place.make_opaque()
        self.implied.add(place.path)

    def _lookup(self, path: bytes) -> int:
        """The directory at `path`. It stays open for a while, and at least until two more are looked up."""
        if not path:
            return self._root
        if (found := self._open.pop(path, None)) is None:
            found = open_in_root(self._root, path, _DIRECTORY)
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = found  # As the last one that was used.
        return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a member belongs: the directory `parent`, an open descriptor, the name there, and the path of it."""

    parent: int
    name: bytes
    path: bytes

    def beside(self, name: bytes) -> _Place:
        """Another name in the same directory."""
        return _Place(self.parent, name, self.path[: len(self.path) - len(self.name)] + name)

    def stat(self) -> os.stat_result:
        """What is there, itself, if it is a link."""
        return os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)

    def make_opaque(self) -> None:
        """Makes the directory that is there hide those of lower layers."""
        directory = os.open(self.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.parent)
        try:
            os.setxattr(directory, OPAQUE, b"y")
        finally:
            os.close(directory)


@contextlib.contextmanager
def _telling_of_overlayfs(member: Member) -> Iterator[None]:
    """That keeps whiteouts, and what is opaque, for itself."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        raise ImageError(
            f"{member}: the file system of the store has no whiteouts: {error.strerror}",
            "the store belongs on one such as ext4, XFS or btrfs, and not on overlayfs",
        ) from error


def _in_the_way(path: bytes, member: Member) -> ImageError:
    return ImageError(f"{member}: {os.fsdecode(path)!r} is a file, or a link that leads nowhere")


def _parts(name: bytes, member: Member) -> list[bytes]:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ImageError(f"{member} has a `..` in its name, or in that of what it links to")
    return parts


def _link(source: int, target: bytes, place: _Place) -> None:
    os.link(target, place.name, src_dir_fd=source, dst_dir_fd=place.parent, follow_symlinks=False)


def _owner(member: Member) -> tuple[int, int]:
    if not (0 <= member.uid <= _LARGEST_ID and 0 <= member.gid <= _LARGEST_ID):
        raise ImageError(f"{member} belongs to {member.uid}:{member.gid}, which nobody can be")
    return member.uid, member.gid


def _device(member: Member) -> int:
    major, minor = member.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):  # <linux/kdev_t.h>
        raise ImageError(f"{member} is the device {major}:{minor}, which there cannot be")
    return os.makedev(major, minor)


def _set_xattrs(target: int | bytes, member: Member) -> None:
    for name, value in member.xattrs.items():
        if name.startswith(_IGNORED_XATTRS):
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            raise ImageError(
                f"{member}: the extended attribute {name!r} cannot be set: {error.strerror}",
                "the store belongs on a file system that has them, such as ext4, XFS or btrfs",
            ) from error


def _set_time(target: int | bytes, time: int, **where: Any) -> None:
    # A time that no file can have is the archive's mistake, and no harm.
    with contextlib.suppress(OverflowError):
        os.utime(target, ns=(time, time), **where)
