"""What is read from the kernel's lists of cgroups, by samples of real ones."""

from __future__ import annotations

import os

import pytest

from mesocosm.linux.cgroup import Hierarchies, Hierarchy, hierarchies
from mesocosm.linux.cgroup.hierarchy import parse, parse_membership

V1 = """\
22 1 254:1 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children,release_agent=/bin/x
35 31 0:32 /docker/ab /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
V2 = "31 23 0:28 /../.. /sys/fs/cgroup\\040two rw,relatime shared:4 master:2 - cgroup2 none rw,memory_recursiveprot\n"


def test_parse_v1() -> None:
    mounts = {mount.path: mount for mount in parse(V1)}
    assert set(mounts) == {f"/sys/fs/cgroup/{name}" for name in ("systemd", "cpu,cpuacct", "cpuset", "memory")}
    assert {mount.version for mount in mounts.values()} == {1}
    assert mounts["/sys/fs/cgroup/cpu,cpuacct"].options >= {"cpu", "cpuacct"}
    assert mounts["/sys/fs/cgroup/memory"].root == "/docker/ab"
    assert mounts["/sys/fs/cgroup/memory"].device == os.makedev(0, 32)


def test_parse_hybrid() -> None:
    assert [mount.path for mount in parse(HYBRID) if mount.version == 2] == ["/sys/fs/cgroup/unified"]


def test_parse_v2_with_escapes() -> None:
    (mount,) = parse(V2)
    assert (mount.version, mount.path, mount.root) == (2, "/sys/fs/cgroup two", "/../..")


MEMORY = Hierarchy(frozenset({"memory"}), "/c/memory", 1)
CPU = Hierarchy(frozenset({"cpu", "cpuacct"}), "/c/cpu,cpuacct", 1)
UNIFIED = Hierarchy(frozenset({"memory", "pids"}), "/c/unified", 2, "/outer")


def test_v1_goes_before_v2() -> None:
    mounted = Hierarchies((UNIFIED, MEMORY, CPU))
    assert mounted.of("memory") is MEMORY
    assert mounted.of("pids") is UNIFIED
    assert mounted.of("cpuacct") is CPU
    assert mounted.of("rdma") is None
    assert mounted.unified is UNIFIED
    assert mounted.freezer is None


def test_v2_has_no_freezer_hierarchy() -> None:
    assert Hierarchies((UNIFIED,)).freezer is None
    freezer = Hierarchy(frozenset({"freezer"}), "/c/freezer", 1)
    assert Hierarchies((UNIFIED, freezer)).freezer is freezer


@pytest.mark.parametrize(
    ("names", "group"),
    [(("mesos", "a/mesos/b"), "/c/memory/mesos/a/mesos/b"), (("/x/y/", ""), "/c/memory/x/y"), ((), "/c/memory")],
)
def test_group(names: tuple[str, ...], group: str) -> None:
    assert MEMORY.group(*names) == group


MEMBERSHIP = """\
9:name=systemd:/user.slice
4:memory:/mesos/a:b
2:cpu,cpuacct:/
0::/outer/mesos/a/leaf
"""


@pytest.mark.parametrize(
    ("hierarchy", "group"),
    [(MEMORY, "/c/memory/mesos/a:b"), (CPU, "/c/cpu,cpuacct"), (UNIFIED, "/c/unified/mesos/a/leaf")],
)
def test_membership(hierarchy: Hierarchy, group: str) -> None:
    assert parse_membership(hierarchy, MEMBERSHIP) == group


def test_membership_of_a_hierarchy_that_is_not_listed() -> None:
    with pytest.raises(LookupError, match="/c/pids"):
        parse_membership(Hierarchy(frozenset({"pids"}), "/c/pids", 1), MEMBERSHIP)


def test_nothing_is_found_where_nothing_is_mounted(tmp_path: object) -> None:
    assert hierarchies(str(tmp_path)) == Hierarchies(())
