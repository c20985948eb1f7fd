"""What a container with a root file system sees in /sys/fs/cgroup: the cgroups that it is in, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, LinuxInfo, Resources
from mesocosm.isolators.cgroups.mem import MemIsolator
from mesocosm.isolators.cgroups.pids import PidsIsolator
from tests.kernel.cgroup_support import MB, created
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/cpu,cgroups/mem,cgroups/pids"
OWN = LinuxInfo(share_cgroups=False)
CGROUPS = "/sys/fs/cgroup"


@pytest.fixture
def unified(launch: Launch) -> bool:
    """Whether the controllers are those of cgroup v2."""
    created(MemIsolator, launch.flags)
    return created(PidsIsolator, launch.flags).unified


@pytest.fixture
def limit(unified: bool) -> str:
    """The file that has the limit of memory."""
    return f"{CGROUPS}/memory.max" if unified else f"{CGROUPS}/memory/memory.limit_in_bytes"


async def test_the_own_ones(launch: Launch, rootfs: Path, unified: bool, limit: str) -> None:
    """And with it their processes: itself, as its pid namespace has it."""
    processes = f"cat {CGROUPS}/leaf/cgroup.procs" if unified else f"cat {CGROUPS}/freezer/cgroup.procs"
    script = f"cat {limit}; {processes} | grep -cx $$"
    options = {"isolation": ISOLATION, "rootfs": rootfs, "resources": Resources(cpus=0.5, mem=64 * MB)}
    assert await launch.output(script, **options) == f"{64 * MB}\n1"
    names = (await launch.output(f"ls {CGROUPS}", **options)).split()
    expected = {"cpu.weight", "memory.max", "pids.max"} if unified else {"cpu", "cpuacct", "freezer", "memory", "pids"}
    assert expected <= set(names)
    assert unified or expected == set(names)


@pytest.mark.parametrize("user", [None, "1000"])
async def test_they_cannot_be_changed(launch: Launch, rootfs: Path, limit: str, user: str | None) -> None:
    options = {"isolation": ISOLATION, "rootfs": rootfs, "resources": Resources(mem=64 * MB), "user": user}
    script = f"echo 1000000000 > {limit}; mkdir {Path(limit).parent}/new; mkdir {CGROUPS}/new; true"
    container = await launch(script, **options)
    assert await container.wait() == 0
    lines = container.stream("stderr").splitlines()
    assert len(lines) == 3
    assert user is not None or all("Read-only file system" in line for line in lines)


async def test_nested_containers(launch: Launch, rootfs: Path, limit: str) -> None:
    """One that shares a cgroup sees that of its parent, as a debug container does; another has its own."""
    options = {"isolation": ISOLATION, "rootfs": rootfs}
    parent = await launch.sleeping(resources=Resources(mem=64 * MB), **options)
    read = f"cat {limit}"
    assert await launch.output(read, parent=parent, **options) == str(64 * MB)
    debug = ContainerClass.DEBUG
    assert await launch.output(read, parent=parent, isolation=ISOLATION, container_class=debug) == str(64 * MB)
    own = {**options, "linux_info": OWN, "resources": Resources(mem=32 * MB)}
    assert await launch.output(read, parent=parent, **own) == str(32 * MB)
    await parent.destroy()


@pytest.mark.slow
async def test_without_a_root_file_system_those_of_the_host(launch: Launch, unified: bool) -> None:
    output = await launch.output(f"stat -f -c %T {CGROUPS}; ls {CGROUPS}", isolation=ISOLATION)
    assert output.split()[1:] == sorted(path.name for path in Path(CGROUPS).iterdir())


@pytest.mark.slow
async def test_without_an_isolator_of_cgroups_none(launch: Launch, rootfs: Path) -> None:
    assert await launch.output(f"ls {CGROUPS}", isolation=LINUX, rootfs=rootfs) == ""
