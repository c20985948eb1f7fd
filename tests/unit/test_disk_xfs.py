"""What `disk/xfs` refuses without an XFS, and its projects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesocosm.container import ContainerID, DiskSource, DiskType, PersistentVolume
from mesocosm.errors import ContainerError, FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.disk.base import Directory
from mesocosm.isolators.disk.projects import Projects, parse_ranges
from mesocosm.isolators.disk.xfs import XfsIsolator, _takes_quota


@pytest.mark.skipif(os.geteuid() != 0, reason="other users are refused before")
def test_another_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"is not on XFS; put --work_dir on an XFS .* or use disk/du"):
        XfsIsolator.create(Flags(work_dir=tmp_path / "work"))


@pytest.mark.parametrize("text", ["", "[]", "[0-10]", "[10-5]", "5000-", "[1-4294967296]", "[1-5,5-6]", "x"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(FlagError, match="--xfs_project_range"):
        parse_ranges(text)


def test_ranges() -> None:
    assert parse_ranges("[5000-10000]") == (range(5000, 10001),)
    assert parse_ranges("[1-2, 7]") == (range(1, 3), range(7, 8))


def test_a_project_is_in_use_as_long_as_there_is_its_directory(tmp_path: Path) -> None:
    projects = Projects(parse_ranges("[5-6]"))
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    other.symlink_to("nowhere")
    projects.keep(5, first)
    projects.keep(9, other)  # Of a range that once was.
    assert (projects.total, projects.free, list(projects.unused()), projects.of(first)) == (2, 1, [6], 5)
    assert projects.gone() == []
    first.rmdir()
    other.unlink()
    assert sorted(projects.gone()) == [5, 9]
    assert projects.free == 1, "it may still have a quota"
    for project in projects.gone():
        projects.give_back(project)
    assert (projects.free, list(projects.unused()), projects.of(first)) == (2, [5, 6], None)


def test_a_project_is_of_the_last_directory_that_is_said_to_have_it(tmp_path: Path) -> None:
    """Root in a container can give its sandbox the project of another's."""
    projects = Projects(parse_ranges("[5-6]"))
    for name in ("first", "second"):
        projects.keep(5, tmp_path / name)
    assert (projects.of(tmp_path / "first"), projects.of(tmp_path / "second")) == (None, 5)
    projects.keep(6, tmp_path / "second")
    projects.give_back(5)
    assert (projects.of(tmp_path / "second"), projects.free) == (6, 1)


async def test_what_is_closed_is_closed_also_if_a_quota_cannot_be_taken_away(tmp_path: Path) -> None:
    """As nothing here is XFS, none can; the next one takes it away."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    isolator = XfsIsolator(Flags(work_dir=tmp_path), parse_ranges("[5-6]"))
    isolator._projects.keep(5, tmp_path / "gone")
    isolator._begin()
    with pytest.raises(OSError):
        await isolator.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert isolator._projects.free == 1
    await isolator.close()


@pytest.mark.parametrize(
    ("kind", "takes"), [(None, True), (DiskType.MOUNT, False), (DiskType.PATH, None)], ids=["own", "whole", "part"]
)
def test_volumes_of_other_disks(kind: DiskType | None, takes: bool | None) -> None:
    """The work directory alone has quotas here. A disk that is one volume is its own limit."""
    source = None if kind is None else DiskSource(kind, "/mnt")
    directory = Directory(Path("/mnt"), 1, PersistentVolume("id", "role", 1, "data", source=source))
    if takes is None:
        with pytest.raises(ContainerError, match="is a part of another disk"):
            _takes_quota(ContainerID("c"), directory)
    else:
        assert _takes_quota(ContainerID("c"), directory) is takes
