"""Which containerizers an agent has: those of `--containerizers`."""

from __future__ import annotations

from collections.abc import Sequence

from mesocosm.containerizer.base import Containerizer, Fetch, Log
from mesocosm.containerizer.composing import ComposingContainerizer
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.switchboard.switchboard import Switchboard


def create_containerizer(
    names: Sequence[str], flags: Flags, fetch: Fetch, log: Log, switchboard: Switchboard
) -> Containerizer:
    """Those of `names`, as one, which are asked in that order. Raises FlagError for a name that is none."""
    made = [_create(name, flags, fetch, log, switchboard) for name in names]
    if not made:
        raise FlagError("--containerizers names none", "write mesos")
    return made[0] if len(made) == 1 else ComposingContainerizer(made)


def _create(name: str, flags: Flags, fetch: Fetch, log: Log, switchboard: Switchboard) -> Containerizer:
    if name == "mesos":
        return MesosContainerizer(flags, fetch=fetch, log=log, switchboard=switchboard)
    if name == "docker":
        # Imported here: few agents have it.
        from mesocosm.containerizer.docker import DockerContainerizer

        return DockerContainerizer(flags, fetch=fetch, log=log)
    raise FlagError(f"--containerizers: there is no containerizer {name!r}", "write mesos or docker")
