"""Making cgroups, moving processes into them, and removing them with all that is below."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Collection, Iterator
from functools import lru_cache

from mesocosm.linux import poll
from mesocosm.linux.cgroup import files
from mesocosm.linux.cgroup.hierarchy import available

_GONE = frozenset({errno.ENOENT, errno.ENODEV})
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05


def create(group: str, controllers: Collection[str] = ()) -> str | None:
    """Makes a cgroup with the ancestors that it lacks; returns the topmost one made, None if all existed.

    On cgroup v2, `controllers` are available in it then: each is enabled in every ancestor that did not give it yet.
    Such an ancestor must not hold processes itself, unless it is the root of the whole tree ("no internal processes",
    cgroup-v2.rst): OSError EBUSY. On v1 there must be no `controllers`. Raises OSError.
    """
    made = _make(group)
    if controllers:
        _provide(group, frozenset(controllers))
    return made


def _make(group: str) -> str | None:
    above = None
    try:
        os.mkdir(group)
        made = group
    except FileExistsError:
        made = None
    except FileNotFoundError:
        above = _make(group.rpartition("/")[0])
        made = _make(group)
    if _lacks_cpus(group.rpartition("/")[0]):
        for name in ("cpuset.cpus", "cpuset.mems"):
            _inherit(group, name)
    return above or made


@lru_cache(maxsize=256)
def _lacks_cpus(parent: str) -> bool:
    """Whether a new cgroup in there is one of the cpuset of v1: as all of a hierarchy are, always, or none."""
    return files.exists(parent, "cpuset.mems") and not files.unified(parent)


def _inherit(group: str, name: str) -> str:
    """What a cgroup of the cpuset of v1 has, or is given of what the one above has: with nothing it holds no process.

    That is what cgroup.clone_children is for, which others may want unset (cpusets.rst, 1.4 and 2).
    """
    value = files.read(group, name).strip()
    if not value:
        value = _inherit(group.rpartition("/")[0], name)
        files.write(group, name, value)
    return value


def _provide(group: str, controllers: frozenset[str]) -> None:
    missing = controllers - available(group)
    if not missing:
        return
    names, parent = " ".join(f"+{controller}" for controller in sorted(missing)), group.rpartition("/")[0]
    if not files.unified(parent):
        raise OSError(errno.ENODEV, f"no such controller for '{names}'", f"{group}/cgroup.controllers")
    _provide(parent, missing)
    try:
        files.write(parent, "cgroup.subtree_control", names)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise OSError(
            error.errno, f"{error.strerror}, as that cgroup holds processes itself", error.filename
        ) from error


def assign(group: str, pid: int) -> None:
    """Moves a process, with all its threads, into a cgroup. Raises OSError."""
    files.write(group, "cgroup.procs", pid)


def processes(group: str, *, recursive: bool = False) -> list[int]:
    """The processes in a cgroup, and in those below it if `recursive`; none if it is gone. Raises OSError.

    Those that have no id in the pid namespace of this process are left out.
    """
    pids: list[int] = []
    for member in subtree(group) if recursive else (group,):
        try:
            text = files.read(member, "cgroup.procs")
        except OSError as error:
            # A threaded cgroup has no such list: that of the cgroup above it has its processes.
            if error.errno not in _GONE and error.errno != errno.EOPNOTSUPP:
                raise
            continue
        pids.extend(pid for line in text.splitlines() if (pid := int(line)))
    return pids


def count_threads(group: str) -> int:
    """How many threads the processes in a cgroup and those below it have, itself; 0 if it is gone. Raises OSError."""
    name = "cgroup.threads" if files.unified(group) else "tasks"
    count = 0
    for member in subtree(group):
        try:
            count += files.read(member, name).count("\n")
        except OSError as error:
            if error.errno not in _GONE:
                raise
    return count


def subtree(group: str) -> list[str]:
    """All cgroups below `group`, and last itself: children before their parents. Empty if it is gone."""
    found: list[str] = []
    try:
        with os.scandir(group) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return found
    for child in children:
        found.extend(subtree(child))
    found.append(group)
    return found


def remove(group: str) -> None:
    """Removes a cgroup without processes and children; an absent one is no error. Raises OSError."""
    try:
        os.rmdir(group)
    except FileNotFoundError:
        return


def remove_unused(group: str) -> bool:
    """Removes a cgroup, and returns True; but False if there are processes or children in it. Raises OSError."""
    try:
        remove(group)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


async def destroy(group: str, patience: float = 60.0) -> None:
    """Removes a cgroup and all below it, whose processes are ending; an absent one is no error.

    Tries again for `patience` seconds while the kernel says EBUSY. Raises OSError: EBUSY, with the processes that are
    left, when the patience ends.
    """
    if _remove_all(group):
        return
    try:
        async with asyncio.timeout(patience):
            await _until_removed(group)
    except TimeoutError:
        left = ", ".join(map(str, processes(group, recursive=True))) or "none"
        raise OSError(errno.EBUSY, f"rmdir: still busy after {patience:g} s, processes left: {left}", group) from None


async def _until_removed(group: str) -> None:
    unified = files.unified(group)
    for pause in pauses():
        if unified:
            await poll.until(f"{group}/cgroup.events", lambda text: files.parse_keyed(text)["populated"] == 0)
        if _remove_all(group):
            return
        # Nothing tells when to try again: v1 has no events, and on v2 the last process was just seen to leave.
        await asyncio.sleep(pause)


def pauses() -> Iterator[float]:
    """Seconds between two looks at what the kernel has no event for: few at first, then more."""
    pause = _SHORTEST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _remove_all(group: str) -> bool:
    """Whether the group is gone. What can be removed below it is removed in any case."""
    if remove_unused(group):
        return True
    left = [member for member in subtree(group) if not remove_unused(member)]
    return not left
