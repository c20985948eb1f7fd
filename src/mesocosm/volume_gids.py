"""Groups of volumes that users share (`--volume_gid_range`): who may use one is in its group, and nobody else is.

`<work_dir>/meta/volume_gids` says which group is whose, and outlives the process and the boot. It is written before a
volume is changed, so that what was begun can be ended by whoever comes next.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Self

import msgspec

from mesocosm.container import ContainerConfig
from mesocosm.dataclass import dataclass, field, replace
from mesocosm.errors import ContainerError, RecoveryError
from mesocosm.flags import Flags
from mesocosm.launcher.operations import HostDirectory
from mesocosm.linux.lock import locked
from mesocosm.linux.path import Permissions, make_directory, open_in_root
from mesocosm.linux.replace import replace_file
from mesocosm.linux.tree import directories
from mesocosm.users import resolve

_GROUP_BITS = stat.S_ISGID | stat.S_IWGRP
"""What is made in such a directory is the group's, and the group may make it."""


@dataclass(frozen=True, slots=True)
class _Allocation:
    """The group of `path` in a sandbox, and its `former` one. `done` when the volume has it.

    One that is `lasting` is of a persistent volume, in the directory of such of its role.
    """

    gid: int
    sandbox: HostDirectory
    path: str
    former: int
    done: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class _Record:
    version: int = 1
    allocations: list[_Allocation] = field(default_factory=list)


class VolumeGids:
    """The groups of a work directory. All methods block, and raise OSError, and RecoveryError for a damaged record."""

    def __init__(self, work_dir: Path, ranges: tuple[tuple[int, int], ...]) -> None:
        self._file = work_dir / "meta" / "volume_gids"
        self._ranges = ranges

    @classmethod
    def create(cls, flags: Flags) -> Self | None:
        """Those of `--volume_gid_range`; None without that flag."""
        return None if flags.volume_gid_range is None else cls(flags.work_dir, flags.volume_gid_range)

    @property
    def total(self) -> int:
        """How many groups there are."""
        return len(set(self._all()))

    def free(self) -> int:
        """How many of them no volume has."""
        return self.total - len({entry.gid for entry in self._read()} & set(self._all()))

    def groups(
        self, config: ContainerConfig, directory: HostDirectory, path: str, *, lasting: bool = False
    ) -> tuple[int, ...]:
        """The group by which the container's user may use what is somebody else's: none for root, and for the owner.

        See `allocate`.
        """
        user = resolve(config.user or "0", config.root_layers)
        gid = None if user.uid == 0 else self.allocate(directory, path, user.uid, lasting=lasting)
        return () if gid is None else (gid,)

    def allocate(self, sandbox: HostDirectory, path: str, uid: int, *, lasting: bool = False) -> int | None:
        """The group of a volume in a sandbox, which is made if it is missing; None if it is the user's own anyway.

        It is given a free group if it has none. That of a `lasting` one is taken back when that was removed. Raises
        ContainerError if no group is free.
        """
        volume = _open(sandbox, path)
        try:
            status = os.fstat(volume)
            if status.st_uid == uid:
                return None
            with self._changing() as entries:
                found = next((each for each in entries if (each.sandbox, each.path) == (sandbox, path)), None)
                if found is None:
                    found = _Allocation(self._unused(entries), sandbox, path, status.st_gid, lasting=lasting)
                    entries.append(found)
                    self._write(entries)
                if not found.done:
                    _set_group(volume, found.gid, _GROUP_BITS)
                    entries[entries.index(found)] = replace(found, done=True)
            return found.gid
        finally:
            os.close(volume)

    def release(self, sandbox: HostDirectory) -> None:
        """Takes back the groups of all volumes in a sandbox, which may be gone."""
        self._release(lambda entry: entry.sandbox == sandbox)

    def release_others(self, sandboxes: Collection[HostDirectory]) -> None:
        """Takes back the groups of all volumes in other sandboxes: those of containers that are gone."""
        self._release(lambda entry: not entry.lasting and entry.sandbox not in sandboxes)

    def release_removed(self) -> None:
        """Takes back the groups of persistent volumes that were removed."""
        self._release(lambda entry: entry.lasting and not Path(entry.sandbox.directory, entry.path).exists())

    def _release(self, is_meant: Callable[[_Allocation], bool]) -> None:
        if not self._file.exists():
            return
        with self._changing() as entries:
            for entry in [entry for entry in entries if is_meant(entry)]:
                with contextlib.suppress(FileNotFoundError):
                    _restore(entry)
                entries.remove(entry)

    def _all(self) -> Iterator[int]:
        for first, last in self._ranges:
            yield from range(first, last + 1)

    def _unused(self, entries: Collection[_Allocation]) -> int:
        used = {entry.gid for entry in entries}
        for gid in self._all():
            if gid not in used:
                return gid
        raise ContainerError("every group of --volume_gid_range is in use", "name more of them")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[_Allocation]]:
        """What is on record, to be changed, and written again in any case: what was done is done."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._file.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT):
            before = self._read()
            entries = list(before)
            try:
                yield entries
            finally:
                if entries != before:
                    self._write(entries)

    def _read(self) -> list[_Allocation]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Record).allocations
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            raise RecoveryError(f"{self._file} is damaged: {error}", "remove it, or restore it") from None

    def _write(self, entries: list[_Allocation]) -> None:
        replace_file(self._file, msgspec.json.encode(_Record(allocations=entries)), synced=True)


def _open(sandbox: HostDirectory, path: str) -> int:
    """The volume, made for the owner of the sandbox if it is missing, to be read. Raises OSError."""
    top = sandbox.open()
    try:
        os.close(make_directory(top, path, permissions=Permissions.like(top)))
        return open_in_root(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(top)


def _restore(entry: _Allocation) -> None:
    """Gives the volume its former group. Raises FileNotFoundError if it is gone, and OSError."""
    top = entry.sandbox.open()
    try:
        volume = open_in_root(top, entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(top)
    try:
        _set_group(volume, entry.former, 0)
    finally:
        os.close(volume)


def _set_group(volume: int, gid: int, bits: int) -> None:
    """Gives a file, or a directory with all that is in it, to the group; `bits` are those of directories.

    No link is followed, no mount entered, and no file changed that has other names: it may be somebody else's.
    """
    if not stat.S_ISDIR(os.fstat(volume).st_mode):
        _set_group_of_file(volume, gid)
        return
    for directory in directories(volume):
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        os.fchown(directory, -1, gid)
        os.fchmod(directory, mode & ~_GROUP_BITS | bits)
        with os.scandir(directory) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        for name in files:
            _set_group_of(directory, name, gid)


def _set_group_of(directory: int, name: str, gid: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # Whoever uses the volume may remove it meanwhile.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            _set_group_of_file(file, gid)
        finally:
            os.close(file)


def _set_group_of_file(file: int, gid: int) -> None:
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        os.fchown(file, -1, gid)
