"""Launches a container, as a program that a test kills; run as `python caller.py FLAGS MOMENT`.

MOMENT is `before NAME` or `after NAME` of a function of Mesocosm, in which this process kills itself, or `running`:
then it says the pid of the container's init, and waits.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Resources
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.flags import Flags

COMMAND = "echo up > running; sleep 60"


def kill_at(moment: str, name: str) -> None:
    """Makes the function `name`, a module and what is in it after a colon, kill this process."""
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(f"mesocosm.{module}")
    *classes, attribute = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    setattr(owner, attribute, _fatal(getattr(owner, attribute), moment))


def _fatal(function: Callable[..., Any], moment: str) -> Callable[..., Any]:
    def die(when: str) -> None:
        if when == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def fatal_coroutine(*arguments: Any, **options: Any) -> Any:
            die("before")
            result = await function(*arguments, **options)
            die("after")
            return result

        return fatal_coroutine

    @functools.wraps(function)
    def fatal(*arguments: Any, **options: Any) -> Any:
        die("before")
        result = function(*arguments, **options)
        die("after")
        return result

    return fatal


async def main(flags: Flags, moment: str, rootfs: str, command: str) -> None:
    containerizer = MesosContainerizer(flags)
    containerizer.start()
    container_id = ContainerID("x")
    if moment != "running":
        kill_at(*moment.split(" "))
    config = ContainerConfig(
        CommandInfo(command), rootfs=Path(rootfs) if rootfs else None, resources=Resources(cpus=0.1, mem=64 << 20)
    )
    await containerizer.launch(container_id, config)
    if moment == "running":
        status = await containerizer.status(container_id)
        print(status.executor_pid, flush=True)  # noqa: T201 - for the test that started this program.
    await containerizer.wait(container_id)
    await containerizer.remove(container_id)
    await containerizer.close()


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    values |= {name: Path(values[name]) for name in ("work_dir", "runtime_dir", "cgroups_hierarchy")}
    asyncio.run(main(Flags(**values), *sys.argv[2:]))
