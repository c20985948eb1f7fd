"""Cgroups are made with their ancestors, joined, and removed however busy they are."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import PurePath

import pytest

from mesocosm.linux import cgroup
from tests.kernel.cgroup_support import a_group, blocked

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["freezer", "pids", "unified"])
async def group(request: pytest.FixtureRequest, cgroups_root: str) -> AsyncIterator[str]:
    """The directory of a cgroup that is not there yet."""
    group = a_group(request.param, cgroups_root)
    yield group
    await cgroup.destroy(group, 5)


@pytest.fixture
async def unified(cgroups_root: str) -> AsyncIterator[str]:
    """The same, for cgroup v2 with the controllers that the tests use."""
    group = a_group("unified", cgroups_root)
    if not {"cpu", "memory", "pids"} <= cgroup.available(str(PurePath(group).parent)):
        pytest.skip("cgroup v2 has no controllers here")
    yield group
    await cgroup.destroy(group, 5)


def test_create_is_idempotent(group: str) -> None:
    assert cgroup.create(f"{group}/a/b") == group
    assert cgroup.create(f"{group}/a/b") is None
    assert cgroup.create(f"{group}/a/c/d") == f"{group}/a/c"
    assert cgroup.subtree(group)[-2:] == [f"{group}/a", group]
    assert sorted(cgroup.subtree(group)) == [group, *(f"{group}/{name}" for name in ("a", "a/b", "a/c", "a/c/d"))]
    assert cgroup.exists(f"{group}/a/c/d", "cgroup.procs")
    assert not cgroup.exists(f"{group}/a/e")


def test_processes_and_membership(group: str) -> None:
    cgroup.create(f"{group}/a")
    mounted = cgroup.hierarchies()
    (hierarchy,) = (entry for entry in mounted.mounted if group.startswith(f"{entry.path}/"))
    with blocked("read -r end") as one, blocked("read -r end") as two:
        before = cgroup.membership(hierarchy, one.pid)
        assert before != f"{group}/a"
        cgroup.assign(group, one.pid)
        cgroup.assign(f"{group}/a", two.pid)
        assert cgroup.membership(hierarchy, one.pid) == group
        assert cgroup.membership(hierarchy, two.pid) == f"{group}/a"
        assert cgroup.processes(group) == [one.pid]
        assert sorted(cgroup.processes(group, recursive=True)) == sorted([one.pid, two.pid])
        assert os.getpid() not in cgroup.processes(group, recursive=True)


async def test_destroy_takes_all_below(group: str) -> None:
    for name in ("a/b/c", "a/d", "e"):
        cgroup.create(f"{group}/{name}")
    await cgroup.destroy(group)
    assert not cgroup.exists(group)
    await cgroup.destroy(group)


async def test_destroy_names_the_processes_that_are_left(group: str) -> None:
    cgroup.create(f"{group}/a")
    cgroup.create(f"{group}/b")
    with blocked("read -r end") as process:
        cgroup.assign(f"{group}/a", process.pid)
        with pytest.raises(OSError, match=f"processes left: {process.pid}") as caught:
            await cgroup.destroy(group, 0.1)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.filename == group
        assert not cgroup.exists(f"{group}/b")  # What could be removed is.
        assert cgroup.exists(f"{group}/a")


async def test_destroy_waits_for_the_last_process(group: str) -> None:
    cgroup.create(f"{group}/a")
    with blocked("read -r end") as process:
        cgroup.assign(f"{group}/a", process.pid)
        destroying = asyncio.create_task(cgroup.destroy(group))
        done, _ = await asyncio.wait([destroying], timeout=0.2)
        assert not done  # Busy, and tried again.
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.wait_for(destroying, 10)
    assert not cgroup.exists(group)


async def test_destroy_of_a_group_that_another_removes(group: str) -> None:
    cgroup.create(f"{group}/a")
    with blocked("read -r end") as process:
        cgroup.assign(f"{group}/a", process.pid)
        destroying = [asyncio.create_task(cgroup.destroy(group)) for _ in range(5)]
        done, _ = await asyncio.wait(destroying, timeout=0.05)
        assert not done
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*destroying), 10)


def test_write_names_file_and_value(group: str) -> None:
    cgroup.create(group)
    with pytest.raises(OSError) as caught:
        cgroup.assign(group, 2**22 + 1)
    assert caught.value.errno == errno.ESRCH
    assert caught.value.filename == f"{group}/cgroup.procs"
    assert str(2**22 + 1) in str(caught.value)


def test_controllers_are_enabled_on_the_way(unified: str) -> None:
    cgroup.create(f"{unified}/plain")
    assert not cgroup.available(f"{unified}/plain") & {"memory", "pids"}
    cgroup.create(f"{unified}/a/b", ("memory", "pids"))
    assert cgroup.available(f"{unified}/a/b") >= {"memory", "pids"}
    assert cgroup.enabled(f"{unified}/a") == {"memory", "pids"}
    assert cgroup.enabled(f"{unified}/a/b") == frozenset()
    cgroup.create(f"{unified}/a/b", ("memory", "pids", "cpu"))
    assert cgroup.enabled(f"{unified}/a") == {"memory", "pids", "cpu"}


def test_a_cgroup_with_processes_gives_no_controllers(unified: str) -> None:
    cgroup.create(f"{unified}/a")
    with blocked("read -r end") as process:
        cgroup.assign(f"{unified}/a", process.pid)
        with pytest.raises(OSError, match="holds processes itself") as caught:
            cgroup.create(f"{unified}/a/b", ("memory",))
        assert caught.value.errno == errno.EBUSY
        assert caught.value.filename == f"{unified}/a/cgroup.subtree_control"
        cgroup.create(f"{unified}/a/leaf")
        cgroup.assign(f"{unified}/a/leaf", process.pid)
        cgroup.create(f"{unified}/a/b", ("memory",))
        assert "memory" in cgroup.available(f"{unified}/a/b")


def test_a_controller_that_there_is_not(cgroups_root: str) -> None:
    group = a_group("unified", cgroups_root)
    with pytest.raises(OSError, match="no such controller for '\\+nonsense'") as caught:
        cgroup.create(group, ("nonsense",))
    assert caught.value.errno == errno.ENODEV
    cgroup.remove(group)


def test_what_another_mount_covers_is_not_there() -> None:
    count = f"{sys.executable} -c 'from mesocosm.linux import cgroup; print(len(cgroup.hierarchies().mounted))'"
    script = f"{count}; mount -t tmpfs none /sys/fs/cgroup && {count}; grep -c ' - cgroup' /proc/self/mountinfo"
    output = subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True, capture_output=True, text=True)
    before, after, mounted = map(int, output.stdout.split())
    assert 0 < before <= mounted
    assert after == 0
