"""What a containerizer asks of the launcher process, and what that answers."""

from __future__ import annotations

import struct

from mesocosm.dataclass import dataclass
from mesocosm.launcher.info import Command
from mesocosm.launcher.operations import Operation
from mesocosm.linux.namespaces import Namespace

REPLY = struct.Struct("=iiI")
"""The pid or 0, an errno or 0, and the length of the text that follows: what failed."""


@dataclass(frozen=True, slots=True)
class CloneRequest:
    """An init to clone. With it comes its end of the container's channel.

    Then come, if it enters namespaces, the pidfd of the init that has them; if `into_cgroup`, a directory of cgroup v2
    to start in. `operations` are likely to be needed, and can be prepared.
    """

    clone_namespaces: Namespace
    enter_namespaces: Namespace = Namespace.NONE
    into_cgroup: bool = False
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """A built-in program to fork outside of all containers, with the descriptors that come with it, from 3 on."""

    command: Command


@dataclass(frozen=True, slots=True)
class JanitorRequest:
    """The command line of a process to execute should the containerizer end without a word."""

    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Farewell:
    """There will be no more requests, and nothing is to be cleaned up."""
