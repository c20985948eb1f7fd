"""`cgroups/hugetlb`: huge pages that a container asks for within and beyond a limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.isolators.cgroups.hugetlb import HugetlbIsolator
from mesocosm.linux import cgroup
from tests.kernel.cgroup_support import created, group_of
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/hugetlb"
PAGE = 2 << 20
PAGES = 4
RESERVED = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
MAP = f"""
import mmap
MAP_HUGETLB = 0x40000
def take(pages):
    try:
        memory = mmap.mmap(-1, pages * {PAGE}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
    except OSError as error:
        return error.strerror
    memory[:] = bytes(len(memory))
    memory.close()
    return "taken"
input()
print(take(1), take(2), sep=", ", flush=True)
"""


@pytest.fixture(autouse=True)
def huge_pages(launch: Launch) -> Iterator[None]:
    """Pages that are free; given back at the end."""
    created(HugetlbIsolator, launch.flags)
    before = int(RESERVED.read_text())
    RESERVED.write_text(str(before + PAGES))
    if int(RESERVED.read_text()) != before + PAGES:
        RESERVED.write_text(str(before))
        pytest.skip("there is no memory for huge pages")
    yield
    RESERVED.write_text(str(before))


async def test_limit(launch: Launch) -> None:
    """It stays over a restart, and is that of a nested container, too."""
    limited = await launch.talking(["python3", "-c", MAP], isolation=ISOLATION)
    free = await launch.talking(["python3", "-c", MAP], isolation=ISOLATION)
    group = group_of(launch.flags, "hugetlb", limited.container_id)
    cgroup.write(group, f"hugetlb.2MB.rsvd.{'max' if cgroup.unified(group) else 'limit_in_bytes'}", PAGE)
    limited.containerizer = free.containerizer = await launch.successor()
    nested = await launch.talking(["python3", "-c", MAP], parent=limited)
    for container, expected in (
        (nested, "Cannot allocate memory"),
        (free, "taken"),
        (limited, "Cannot allocate memory"),
    ):
        container.say("go")
        assert await container.line() == f"taken, {expected}"
        assert await container.wait() == 0
    assert not cgroup.exists(group)
