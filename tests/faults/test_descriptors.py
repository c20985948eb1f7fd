"""A process that has no descriptor left: a launch fails with a clear error wherever the last one is missing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import MesocosmError
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel


@contextlib.contextmanager
def only(count: int) -> Iterator[None]:
    """This process can open so many more descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry) for entry in os.listdir("/proc/self/fd"))  # noqa: PTH208 - one descriptor, closed.
    fillers = []
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, limits[1]))
        # Fills the gaps below, and leaves `count`.
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
                stack.callback(os.close, fillers[-1])
        for descriptor in fillers[len(fillers) - count :]:
            os.close(descriptor)
        fillers = fillers[: len(fillers) - count]
        stack.pop_all()
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in fillers:
                os.close(descriptor)


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
