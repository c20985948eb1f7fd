"""The files of the cache, and the room that they take: who gets them, and which go first.

    <directory>/<uid>/<sha256 of the content>

They belong to the agent, and no container's user gets at them but by a descriptor. Each credentials have their own:
what one user was allowed to read, no other gets. Nothing is kept from one start to the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.launcher.info import Credentials
from mesocosm.private import make_private_directory

_DIRECTORY_MODE = 0o700
_PARTIAL = "part-"
_NOT_OURS = (errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
"""What rmdir(2) says of what is no directory, or has something in it that is not the cache's."""
_OURS = re.compile(rf"[0-9]+/([0-9a-f]{{64}}|{_PARTIAL}\w+)")


@dataclass(frozen=True, slots=True)
class Key:
    """What is cached once: a URI, as far as one user may read it."""

    owner: Credentials
    uri: str


@dataclass(slots=True, eq=False)
class _File:
    path: Path
    size: int
    keys: set[Key] = field(default_factory=set)
    readers: int = 0


class Cache:
    """At most `size` bytes of files below `directory`. The accounting is done at once; sizes are bytes."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self._used = 0
        self._keys: dict[Key, _File] = {}
        self._files: dict[Path, _File] = {}  # The one that was used last is last.

    @property
    def size(self) -> int:
        """How much there may be."""
        return self._size

    @property
    def used(self) -> int:
        """How much there is, with what is reserved."""
        return self._used

    def reserve(self, size: int) -> Sequence[Path] | None:
        """Takes room for a file, and forgets those used longest ago for it: their paths, to be removed by the caller.

        None, and nothing is taken, if too much of the room is in use.
        """
        idle = [file for file in self._files.values() if not file.readers]
        missing = self._used + size - self._size
        if missing > sum(file.size for file in idle):
            return None
        victims: list[Path] = []
        for file in idle:
            if missing <= 0:
                break
            missing -= file.size
            self._forget(file)
            victims.append(file.path)
        self._used += size
        return victims

    def release(self, size: int) -> None:
        """Gives back what was reserved."""
        self._used -= size

    @contextlib.contextmanager
    def partial(self, key: Key) -> Iterator[tuple[int, Path]]:
        """A file to download into, open for writing, which is gone at the end unless `add` took it. Raises OSError."""
        directory = self._directory / str(key.owner.uid)
        self.check()
        directory.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=directory)
        try:
            yield descriptor, Path(name)
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)

    def add(self, key: Key, partial: Path, size: int, digest: str) -> None:
        """Keeps a download, for which `size` is reserved. Raises OSError."""
        path = partial.rename(partial.with_name(digest))
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = _File(path, size)
        else:  # Another URI has that content.
            self.release(size)
        file.keys.add(key)
        self._keys[key] = file

    @contextlib.contextmanager
    def reading(self, key: Key) -> Iterator[int | None]:
        """A descriptor of the file of `key`, which is kept for as long; None if there is none. Raises OSError."""
        file = self._keys.get(key)
        descriptor = None if file is None else self._open(file)
        if file is None or descriptor is None:
            yield None
            return
        self._files[file.path] = self._files.pop(file.path)
        file.readers += 1
        try:
            yield descriptor
        finally:
            file.readers -= 1
            os.close(descriptor)

    def check(self) -> None:
        """Makes the directory. Raises FlagError if somebody else could write to it or replace it, and OSError."""
        self._directory = make_private_directory(self._directory, "--fetcher_cache_dir", _DIRECTORY_MODE)

    def clear(self) -> None:
        """Removes what is in the directory of this cache or an earlier one, and nothing else. Raises OSError."""
        self._keys.clear()
        self._files.clear()
        self._used = 0
        for path in list(self._directory.glob("[0-9]*/*")):
            if _OURS.fullmatch(f"{path.parent.name}/{path.name}"):
                path.unlink(missing_ok=True)
        for path in list(self._directory.glob("[0-9]*")):
            try:
                path.rmdir()
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise

    def _open(self, file: _File) -> int | None:
        """Opens a file, if it still is what it was: somebody may have cleaned up."""
        try:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._forget(file)
            return None
        if os.fstat(descriptor).st_size == file.size:
            return descriptor
        os.close(descriptor)
        self._forget(file)
        return None

    def _forget(self, file: _File) -> None:
        del self._files[file.path]
        for key in file.keys:
            del self._keys[key]
        self._used -= file.size
