"""Launches a container whose logs are rotated, as a program that a test kills.

It is run as `python logging_agent.py FLAGS DIRECTORY COMMAND`, where DIRECTORY is that of the logger.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.flags import Flags
from mesocosm.loggers.logrotate import LogrotateContainerLogger, Rotation

X = ContainerID("x")
ROTATION = Rotation(8192, 8192, 100, 100)


async def main(flags: Flags, directory: Path, command: str) -> None:
    containerizer, logger = MesosContainerizer(flags), LogrotateContainerLogger(directory, ROTATION)
    containerizer.start()
    await logger.recover([])
    config = ContainerConfig(CommandInfo(command))
    io = await logger.prepare(X, config, flags.work_dir / "containers" / "x")
    await containerizer.launch(X, config, io)
    for descriptor in (io.stdout, io.stderr):
        assert descriptor is not None
        os.close(descriptor)
    print("launched", flush=True)  # noqa: T201 - for the test that started this program.
    await containerizer.wait(X)


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    values |= {name: Path(values[name]) for name in ("work_dir", "runtime_dir", "cgroups_hierarchy")}
    asyncio.run(main(Flags(**values), Path(sys.argv[2]), sys.argv[3]))
