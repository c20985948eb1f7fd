"""Users: from the name or the numbers that a container asks for to the ids its command gets."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from mesocosm.errors import ContainerError
from mesocosm.launcher.info import Credentials
from mesocosm.linux.path import open_in_root

_MOST = 1 << 20
"""How much of a root file system's /etc/passwd or /etc/group is read, in bytes."""


def resolve(user: str, rootfs: Path | None) -> Credentials:
    """The credentials of `user`: a name, `UID` or `UID:GID`. Raises ContainerError if there is no such user.

    A name is looked up in the /etc/passwd of `rootfs`, if there is one and it has the name, else on the host. Numbers
    need no entry; an entry that a number has gives its groups.
    """
    name, _, group = user.partition(":")
    if not name or "\0" in user:
        raise ContainerError(f"the user {user!r} is no name, UID or UID:GID")
    if group and not (name.isdecimal() and group.isdecimal()):
        raise ContainerError(f"the user {user!r} is no name, UID or UID:GID")
    if any(number.isdecimal() and not _is_id(number) for number in (name, group)):
        raise ContainerError(f"the user {user!r} is beyond the numbers that users have")
    found = (_in_rootfs(name, rootfs) if rootfs is not None else None) or _on_host(name, rootfs)
    if found is None:
        if not name.isdecimal():
            where = "the host" if rootfs is None else f"{rootfs} and the host"
            raise ContainerError(f"there is no user {name!r} on {where}", "use a number, or add the user")
        return Credentials(int(name), int(group or 0))
    return Credentials(found.uid, int(group), ()) if group else found


def _on_host(name: str, rootfs: Path | None) -> Credentials | None:
    if name.isdecimal() and rootfs is not None:
        return None  # The host's groups of that number mean nothing in there.
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        return None
    return Credentials(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def _in_rootfs(name: str, rootfs: Path) -> Credentials | None:
    """The user of a root file system, which may be hostile: nothing outside of it is read, and not too much of it."""
    for fields in _entries(rootfs, "/etc/passwd", 4):
        if name in (fields[0], fields[2]):
            uid, gid = int(fields[2]), int(fields[3])
            others = [int(group[2]) for group in _entries(rootfs, "/etc/group", 4) if fields[0] in group[3].split(",")]
            return Credentials(uid, gid, tuple(dict.fromkeys((gid, *others))))
    return None


def _entries(rootfs: Path, path: str, fields: int) -> Iterator[list[str]]:
    """The well-formed lines of a file like passwd(5), whose third field is a number."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, root)
        try:
            # Not to wait for a writer, should it be a fifo.
            descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            stack.callback(os.close, descriptor)
            data = os.read(descriptor, _MOST)
        except OSError:
            return
    for line in data.decode(errors="replace").splitlines():
        parts = line.split(":")
        numbers = parts[2:4] if path == "/etc/passwd" else parts[2:3]
        if len(parts) >= fields and all(map(_is_id, numbers)):
            yield parts


def _is_id(text: str) -> bool:
    """Whether it is the number of a user or a group; the last one means none to the kernel."""
    return text.isdecimal() and len(text) <= 10 and int(text) < 2**32 - 1
