"""Which containerizers an agent has: those of `--containerizers`."""

from __future__ import annotations

from collections.abc import Sequence

from mesocosm.containerizer.base import Containerizer, Fetch, Log
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import FlagError
from mesocosm.flags import Flags


def create_containerizer(names: Sequence[str], flags: Flags, fetch: Fetch, log: Log) -> Containerizer:
    """The one that `names` has. Raises FlagError for a name that is none."""
    (name,) = names
    if name != "mesos":
        raise FlagError(f"--containerizers: there is no containerizer {name!r}", "write mesos")
    return MesosContainerizer(flags, fetch=fetch, log=log)
