"""Control groups, of both versions: their hierarchies, their files, their processes, and what they tell.

A cgroup is named by its directory, and the functions find out themselves which version it is. They are synchronous
where the kernel answers at once. Every OSError names the file, and the value if one was written.
"""

from __future__ import annotations

from mesocosm.linux.cgroup.files import exists, parse_keyed, read, read_int, read_keyed, unified, write
from mesocosm.linux.cgroup.freezer import freeze, kill, thaw
from mesocosm.linux.cgroup.hierarchy import (
    Hierarchies,
    Hierarchy,
    available,
    enabled,
    hierarchies,
    hierarchy,
    membership,
)
from mesocosm.linux.cgroup.tree import (
    assign,
    count_threads,
    create,
    destroy,
    pauses,
    processes,
    remove,
    remove_unused,
    subtree,
)

__all__ = [
    "Hierarchies",
    "Hierarchy",
    "assign",
    "available",
    "count_threads",
    "create",
    "destroy",
    "enabled",
    "exists",
    "freeze",
    "hierarchies",
    "hierarchy",
    "kill",
    "membership",
    "parse_keyed",
    "pauses",
    "processes",
    "read",
    "read_int",
    "read_keyed",
    "remove",
    "remove_unused",
    "subtree",
    "thaw",
    "unified",
    "write",
]
