"""What removes the places of processes that ended without a word: their containers, cgroups and directories.

The warm launcher executes it when its parent is gone, and the next process that runs containers starts it if there is
something that no launcher removed either.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from mesocosm.containerizer.base import Containerizer
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.linux.tree import remove_path
from mesocosm.oneshot.place import any_stale, await_owner, find, stale

# With the import path of this process, and neither the environment nor the current directory.
_BOOTSTRAP = (
    "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep); from mesocosm.oneshot.janitor import main; main()"
)


def command_line(base: Path, name: str = "") -> tuple[str, ...]:
    """What to execute so that all stale places in `base` are removed, once `name` is one of them."""
    package_root = str(Path(__file__).parents[2])
    path = os.pathsep.join((package_root, *(entry for entry in sys.path if Path(entry).is_absolute())))
    return (sys.executable, "-I", "-c", _BOOTSTRAP, path, str(base), name)


def start_if_needed(base: Path) -> int | None:
    """Starts a janitor for the stale places that are there; the pid of it, to be waited for. Raises OSError."""
    if not any_stale(base):
        return None
    argv = command_line(base)
    return os.posix_spawn(argv[0], argv, {}, setsigmask=())


def main() -> None:
    """Removes the stale places in the directory of the first argument, after that of the second has become one."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # A launcher ignores it, and whatever it executes does.
    os.chdir("/")
    base, name = Path(sys.argv[1]), sys.argv[2]
    if name:
        await_owner(base / name)
    for directory in stale(base):
        _clean(directory)


def _clean(directory: Path) -> None:
    found = find(directory)
    if found is None:
        remove_path(directory)
        return
    place, flags = found
    if flags.runtime_dir.exists():  # Else there never was a containerizer.
        asyncio.run(_destroy_containers(MesosContainerizer(flags)))
    if place.docker_socket is not None:
        from mesocosm.containerizer.docker import DockerContainerizer

        asyncio.run(_destroy_containers(DockerContainerizer(flags)))
    place.remove()


async def _destroy_containers(containerizer: Containerizer) -> None:
    containerizer.start()
    try:
        await containerizer.recover(())
    finally:
        await containerizer.close()
