"""The sandbox of a container: its directory on the host, and the files its output goes to.

The sandbox of a nested container is inside its parent's, which may put links there in its place at any time. It is
therefore never opened by its path, but from the sandbox of the top-level container, and without leaving that.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

from mesocosm.container import ContainerID, sandbox_parts
from mesocosm.containerizer.base import ContainerIO
from mesocosm.dataclass import dataclass
from mesocosm.directories import make_directories, naming
from mesocosm.launcher.info import Credentials
from mesocosm.linux.path import make_directory, open_in_root
from mesocosm.linux.tree import remove_tree

DIRECTORY_MODE = 0o750
FILE_MODE = 0o644
_OUTPUTS = ("stdout", "stderr")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Sandbox:
    """An open sandbox. `made` says whether it was missing before."""

    directory: Path
    descriptor: int
    owner: Credentials | None
    made: bool

    @contextlib.contextmanager
    def streams(self, io: ContainerIO) -> Iterator[tuple[int, int, int]]:
        """Descriptors for the command's 0, 1 and 2: those of `io`, else /dev/null and the files of the sandbox."""
        with contextlib.ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            yield (
                io.stdin if io.stdin is not None else keep(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)),
                io.stdout if io.stdout is not None else self._hand_over(keep(self._open("stdout"))),
                io.stderr if io.stderr is not None else self._hand_over(keep(self._open("stderr"))),
            )

    def _open(self, name: str) -> int:
        # Not through a link: an earlier container could have put it there, to anywhere.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with naming(self.directory / name):
            return os.open(name, flags, FILE_MODE, dir_fd=self.descriptor)

    def _hand_over(self, descriptor: int) -> int:
        os.set_blocking(descriptor, True)
        os.fchmod(descriptor, FILE_MODE)  # Not what the umask makes of it.
        _give(descriptor, self.owner)
        return descriptor


@contextlib.contextmanager
def open_sandbox(container_id: ContainerID, directory: Path, owner: Credentials | None) -> Iterator[Sandbox]:
    """The sandbox at `directory`, made for its owner and his group if it is missing. Raises OSError."""
    base, inside = sandbox_parts(container_id, directory)
    with _parent(base, inside, make=True) as (parent, name), naming(directory):
        try:
            os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
            made = True
        except FileExistsError:
            made = False
        # A directory that a caller gave may be a link of his; in the sandbox of another container it must not be.
        descriptor = os.open(name, _DIRECTORY | (os.O_NOFOLLOW if inside else 0), dir_fd=parent)
    try:
        if made:
            os.fchmod(descriptor, DIRECTORY_MODE)
            _give(descriptor, owner)
        yield Sandbox(directory, descriptor, owner, made)
    finally:
        os.close(descriptor)


def remove_sandbox(container_id: ContainerID, directory: Path) -> None:
    """Removes the sandbox at `directory` with all that is in it; absent is no error. Raises OSError."""
    base, inside = sandbox_parts(container_id, directory)
    with contextlib.suppress(FileNotFoundError), _parent(base, inside, make=False) as (parent, name):
        if _is_directory(name, parent):
            for _ in remove_tree(parent, name):
                pass


def remove_unused_sandbox(container_id: ContainerID, directory: Path) -> None:
    """Removes the sandbox at `directory` if all that is in it is empty output; absent is no error. Raises OSError."""
    base, inside = sandbox_parts(container_id, directory)
    with contextlib.suppress(FileNotFoundError), _parent(base, inside, make=False) as (parent, name):
        if not _is_directory(name, parent):
            return
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            with os.scandir(descriptor) as entries:
                present = list(entries)
            if any(entry.name not in _OUTPUTS or entry.stat(follow_symlinks=False).st_size for entry in present):
                return
            for entry in present:
                os.unlink(entry.name, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)


@contextlib.contextmanager
def _parent(base: Path, inside: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """The directory that a sandbox is in, and its name there."""
    if make:
        make_directories(base if inside else base.parent)
    trusted = os.open(base if inside else base.parent, _DIRECTORY)
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, trusted)
        if not inside:
            yield trusted, base.name
            return
        above = posixpath.dirname(inside)
        if make:
            os.close(make_directory(trusted, above))
        parent = open_in_root(trusted, above, _DIRECTORY)
        opened.callback(os.close, parent)
        yield parent, posixpath.basename(inside)


def _is_directory(name: str, parent: int) -> bool:
    """Whether that is a sandbox. A link in its place is none, but something of the parent's. Raises OSError."""
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _give(descriptor: int, owner: Credentials | None) -> None:
    if owner is not None and os.geteuid() == 0:
        os.fchown(descriptor, owner.uid, owner.gid)
