"""What is read of, and written to, the cgroups of a container that Docker has made."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mesocosm.container import Resources
from mesocosm.docker.cgroups import ContainerCgroups
from mesocosm.docker.client import Docker
from mesocosm.docker.values import DockerError
from mesocosm.flags import Flags
from tests.docker_daemon import IMAGE
from tests.docker_daemon import Docker as Daemon

pytestmark = pytest.mark.kernel

MB = 1 << 20
EAT = ("dd", "if=/dev/zero", "of=/dev/null", "bs=90M", "count=1")
"""Takes so much memory."""


@pytest.fixture
def client(shared_docker: Daemon) -> Docker:
    return Docker(socket=str(shared_docker.socket))


@pytest.fixture
async def container(shared_docker: Daemon, client: Docker, unique_name: str) -> AsyncIterator[str]:
    """One of half a CPU and 64 MB."""
    limits = ("--cpu-shares=512", "--cpu-quota=50000", "--memory=64m", "--memory-reservation=32m")
    shared_docker("run", "--detach", f"--name={unique_name}", "--net=none", *limits, IMAGE, "sleep", "600")
    yield unique_name
    await client.remove(unique_name, force=True)


async def test_usage(client: Docker, container: str, flags: Flags) -> None:
    cgroups = ContainerCgroups(await client.inspect(container), flags)
    usage = cgroups.usage()
    assert (usage.cpus_soft_limit, usage.cpus_limit) == (pytest.approx(0.5, abs=0.3), 0.5)
    assert (usage.mem_limit_bytes, usage.mem_soft_limit_bytes) == (64 * MB, 32 * MB)
    assert usage.timestamp is not None
    assert 0 < (usage.mem_total_bytes or 0) < 64 * MB
    assert (usage.cpus_user_time_secs or 0) + (usage.cpus_system_time_secs or 0) > 0


async def test_update(shared_docker: Daemon, client: Docker, container: str, flags: Flags) -> None:
    cgroups = ContainerCgroups(await client.inspect(container), flags)
    with pytest.raises(AssertionError):
        shared_docker("exec", container, *EAT)
    cgroups.update(Resources(cpus=1, mem=128 * MB), Resources(cpus=1.5))
    usage = cgroups.usage()
    assert (usage.cpus_soft_limit, usage.cpus_limit) == (1, 1.5)
    assert (usage.mem_limit_bytes, usage.mem_soft_limit_bytes) == (128 * MB, 128 * MB)
    shared_docker("exec", container, *EAT)
    cgroups.update(Resources(cpus=1, mem=64 * MB), Resources(mem=64 * MB))
    usage = cgroups.usage()
    assert (usage.mem_limit_bytes, usage.mem_soft_limit_bytes) == (128 * MB, 64 * MB), "it is not lowered"
    assert usage.cpus_limit == 1.5, "what is not given stays"
    cgroups.update(Resources(mem=MB), Resources())
    assert cgroups.usage().mem_soft_limit_bytes == 32 * MB, "as at the launch, where it has that at least"
    cgroups.update(Resources(cpus=0.5, mem=64 * MB), Resources(cpus=math.inf, mem=math.inf))
    usage = cgroups.usage()
    assert (usage.cpus_limit, usage.mem_limit_bytes) == (None, None)


async def test_a_request_bounds_the_cpus_if_that_is_asked_for(client: Docker, container: str, flags: Flags) -> None:
    found = await client.inspect(container)
    ContainerCgroups(found, flags).update(Resources(cpus=0.25), Resources())
    assert ContainerCgroups(found, flags).usage().cpus_limit == 0.5
    bounded = ContainerCgroups(found, replace(flags, cgroups_enable_cfs=True))
    bounded.update(Resources(cpus=0.25), Resources())
    assert bounded.usage().cpus_limit == 0.25


async def test_a_container_that_has_ended(shared_docker: Daemon, client: Docker, container: str, flags: Flags) -> None:
    running = await client.inspect(container)
    cgroups = ContainerCgroups(running, flags)
    shared_docker("kill", container)
    with pytest.raises(DockerError, match=f"{container} does not run"):
        ContainerCgroups(await client.inspect(container), flags)
    with pytest.raises(OSError, match="No such file"):
        cgroups.usage()


async def test_another_process_with_the_same_pid(client: Docker, container: str, flags: Flags) -> None:
    other = replace(await client.inspect(container), pid=os.getpid())
    with pytest.raises(DockerError, match="is in no cgroup of its own"):
        ContainerCgroups(other, flags)
