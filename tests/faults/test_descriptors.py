"""A process that has no descriptor left: a launch fails with a clear error wherever the last one is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import MesocosmError
from tests.few_descriptors import only
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("isolation", ["filesystem/posix", LINUX])
async def test_launches_with_few_descriptors(launch: Launch, rootfs: Path, isolation: str) -> None:
    containerizer = launch.containerizer(isolation)
    await launch.output("true", isolation=isolation)  # The launcher runs, and everything is imported.
    results = []
    for count in range(24):
        container_id = ContainerID(f"d{count}")
        with only(count):
            try:
                await asyncio.wait_for(containerizer.launch(container_id, ContainerConfig(CommandInfo("exit 3"))), 10)
            except (MesocosmError, OSError) as error:
                results.append(False)
                assert "Too many open files" in str(error), f"with {count}: {error!r}"  # noqa: PT017 - depends on count.
            else:
                results.append(True)
        if container_id in await containerizer.containers() or results[-1]:
            await asyncio.wait_for(containerizer.destroy(container_id), 10)
        if (launch.flags.runtime_dir / "containers" / str(container_id)).exists():
            await containerizer.remove(container_id)
    assert results[0] is False
    assert results[-1] is True
    assert await launch.output("echo well", isolation=isolation) == "well"
