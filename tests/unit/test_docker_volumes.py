"""Persistent volumes of containers of Docker, while they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, PersistentVolume
from mesocosm.containerizer.docker_isolator import DockerIsolator
from mesocosm.docker.client import Docker
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState


async def test_what_a_container_has_stays_and_nothing_comes(tmp_path: Path) -> None:
    """The end of a task that had one is no reason to end its executor."""
    flags = Flags(work_dir=tmp_path)
    isolator = DockerIsolator(flags, Docker())
    container_id, volume = ContainerID("c"), PersistentVolume("id", "role", 1, "data")
    config = ContainerConfig(CommandInfo("true"), persistent_volumes=(volume,), directory=tmp_path)
    await isolator.recover([ContainerState(container_id, config, None)], [])
    without = replace(config, persistent_volumes=())
    await isolator.update_volumes(container_id, without, -1)
    await isolator.update_volumes(container_id, config, -1)
    other = replace(config, persistent_volumes=(volume, replace(volume, id="other")))
    with pytest.raises(ContainerError, match="gets no persistent volume while it runs"):
        await isolator.update_volumes(container_id, other, -1)
