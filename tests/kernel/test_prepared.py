"""What is prepared of the file systems when nobody waits, and what a container gets that it was not prepared for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from mesocosm.launcher.kernel_filesystems import CgroupMounts
from mesocosm.launcher.operations import HostFile, Operation, ReceiveMounts, Root
from mesocosm.linux import mount
from mesocosm.linux.mount import Attribute
from mesocosm.linux.namespaces import Namespace, unshare

pytestmark = pytest.mark.kernel

Result = TypeVar("Result")


def apart(work: Callable[[], Result]) -> Result:
    """What `work` returns in a thread with mounts of its own, which are gone with it. It leaves no descriptor open."""

    def run() -> Result:
        unshare(Namespace.MOUNT)
        host = Root(os.open("/", os.O_PATH))
        ReceiveMounts().apply(host)
        host.close()
        before = descriptors()
        result = work()
        assert descriptors() == before
        return result

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def descriptors() -> int:
    return len(os.listdir(f"/proc/self/task/{threading.get_native_id()}/fd"))  # noqa: PTH208 - of /proc.


def applied(operation: Operation, container: Path, prepared: dict[object, tuple[int, ...]]) -> None:
    root = Root(os.open(container, os.O_PATH), prepared=prepared)
    try:
        operation.apply(root)
    finally:
        root.close()


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The directory that is its root."""
    root = tmp_path / "container"
    (root / "sys/fs/cgroup").mkdir(parents=True)
    return root


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("old")
    return file


def leave(_: Path) -> None:
    """Changes nothing."""


def replace(file: Path) -> None:
    """As programs do that write such files."""
    file.with_name("new").write_text("new")
    file.with_name("new").rename(file)


@pytest.mark.parametrize(("change", "seen"), [(leave, "old"), (replace, "new")])
def test_a_file_of_the_host_is_the_one_that_is_there_now(
    file: Path, container: Path, change: Callable[[Path], None], seen: str
) -> None:
    shown = container / file.relative_to("/")

    def show() -> bool:
        operation = HostFile(str(file))
        trees = operation.prepare()
        mount.change(trees[0], Attribute.NO_EXECUTE)  # A mark.
        change(file)
        applied(operation, container, {operation.likeness: trees})
        assert shown.read_text() == seen
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            shown.write_text("changed")
        return bool(os.statvfs(shown).f_flag & os.ST_NOEXEC)

    assert apart(show) is (change is leave), "what was prepared is used, if it is not out of date"
    assert file.read_text() == seen
    assert shown.read_text() == "", "the mount point, with nothing mounted"


def test_a_file_of_the_host_that_is_gone(file: Path, container: Path) -> None:
    def show() -> None:
        operation = HostFile(str(file))
        prepared = {operation.likeness: operation.prepare()}
        file.unlink()
        with pytest.raises(FileNotFoundError):
            applied(operation, container, prepared)

    apart(show)


@pytest.mark.parametrize("names", [("cpu", "memory"), ("cpu",)], ids=["alike", "others"])
def test_cgroups_are_those_of_the_container_itself(tmp_path: Path, container: Path, names: tuple[str, ...]) -> None:
    """Not of the one that they were prepared after."""

    def groups(owner: str) -> tuple[tuple[str, str], ...]:
        return tuple((name, str(tmp_path / owner / name)) for name in ("cpu", "memory"))

    for owner in ("last", "own"):
        for _, directory in groups(owner):
            Path(directory).mkdir(parents=True)
            Path(directory, owner).touch()

    def show() -> list[str]:
        last = CgroupMounts(tuple(each for each in groups("last") if each[0] in names))
        applied(CgroupMounts(groups("own")), container, {last.likeness: last.prepare()})
        top = container / "sys/fs/cgroup"
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            (top / "new").mkdir()
        return sorted(str(path.relative_to(top)) for path in top.rglob("*"))

    assert apart(show) == ["cpu", "cpu/own", "memory", "memory/own"]
