"""Users: from the names or the numbers that a container asks for to the ids its command gets."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from mesocosm.errors import ContainerError
from mesocosm.launcher.info import Credentials
from mesocosm.linux.layers import open_in_layers
from mesocosm.linux.path import open_in_root

_MOST = 1 << 20
"""How large the /etc/passwd or /etc/group of a root file system may be, in bytes."""
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
"""What says that a root file system has no such file, rather than that it could not be read."""


def resolve(user: str, layers: Sequence[Path], *, on_host: bool = True) -> Credentials:
    """The credentials of `user`: a name or `UID`, and perhaps `:` and that of a group. Raises ContainerError.

    A name is looked up in the /etc/passwd or /etc/group of the root file system, if there is one and it has the name,
    else `on_host`. That is made of the directories `layers`, the lowest first. Numbers need no entry; an entry that a
    number has gives its groups. A group that is named is the only one.
    """
    name, colon, group = user.partition(":")
    if not name or (colon and not group) or "\0" in user or ":" in group:
        raise ContainerError(f"the user {user!r} is no name or UID, with or without :GROUP")
    if any(number.isdecimal() and not _is_id(number) for number in (name, group)):
        raise ContainerError(f"the user {user!r} is beyond the numbers that users have")
    found = _in_layers(name, layers) or (_on_host(name, layers) if on_host else None)
    if found is None and not name.isdecimal():
        raise ContainerError(f"there is no user {name!r} {_where(layers, on_host)}", "use a number, or add the user")
    if found is None:
        found = Credentials(int(name), 0)
    return Credentials(found.uid, _group(group, layers, on_host=on_host)) if group else found


def name_of(uid: int) -> str:
    """What the host calls a user, or the number of one that it has no name for."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def of_this_process() -> str:
    """Whose this process is, as `resolve` takes it: a name, or `UID:GID` where the host has none."""
    uid = os.geteuid()
    name = name_of(uid)
    return f"{uid}:{os.getegid()}" if name.isdecimal() else name


def _where(layers: Sequence[Path], on_host: bool) -> str:
    own = "in the image" if len(layers) > 1 or not on_host else f"on {layers[0]}" if layers else ""
    return " and ".join(filter(None, (own, "on the host" if on_host else "")))


def _group(name: str, layers: Sequence[Path], *, on_host: bool) -> int:
    if name.isdecimal():
        return int(name)
    for fields in _entries(layers, "/etc/group", 3):
        if fields[0] == name:
            return int(fields[2])
    with contextlib.suppress(KeyError):
        if on_host:
            return grp.getgrnam(name).gr_gid
    raise ContainerError(f"there is no group {name!r} {_where(layers, on_host)}", "use a number, or add the group")


def _on_host(name: str, layers: Sequence[Path]) -> Credentials | None:
    if name.isdecimal() and layers:
        return None  # The host's groups of that number mean nothing in there.
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        return None
    return Credentials(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def _in_layers(name: str, layers: Sequence[Path]) -> Credentials | None:
    """The user of a root file system, which may be hostile: nothing outside of it is read, and not too much of it."""
    for fields in _entries(layers, "/etc/passwd", 4):
        if name in (fields[0], fields[2]):
            uid, gid = int(fields[2]), int(fields[3])
            others = [int(group[2]) for group in _entries(layers, "/etc/group", 4) if fields[0] in group[3].split(",")]
            return Credentials(uid, gid, tuple(dict.fromkeys((gid, *others))))
    return None


def _entries(layers: Sequence[Path], path: str, fields: int) -> Iterator[list[str]]:
    """The well-formed lines of a file like passwd(5), whose third field is a number."""
    for line in _read(layers, path).splitlines():
        parts = line.split(":")
        numbers = parts[2:4] if path == "/etc/passwd" else parts[2:3]
        if len(parts) >= fields and all(map(_is_id, numbers)):
            yield parts


def _read(layers: Sequence[Path], path: str) -> str:
    """The text of a file of the root file system; nothing if it has none. Raises ContainerError.

    One that is there and cannot be read, or not all of it, is no reason to ask the host: its users are others.
    """
    try:
        descriptor = _open(layers, path)
        try:
            data = os.read(descriptor, _MOST + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _NO_FILE:
            return ""
        raise ContainerError(f"{path} of the root file system cannot be read: {error.strerror}") from error
    if len(data) > _MOST:
        raise ContainerError(f"{path} of the root file system has more than {_MOST} bytes", "make it smaller")
    return data.decode(errors="replace")


def _open(layers: Sequence[Path], path: str) -> int:
    """Opens a file of the root file system. Raises OSError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # Not to wait for a writer, should it be a fifo.
    if len(layers) != 1:
        return open_in_layers([str(layer) for layer in layers], path, flags)
    root = os.open(layers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root(root, path, flags)
    finally:
        os.close(root)


def _is_id(text: str) -> bool:
    """Whether it is the number of a user or a group; the last one means none to the kernel."""
    return text.isdecimal() and len(text) <= 10 and int(text) < 2**32 - 1
