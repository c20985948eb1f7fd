"""A file of the host in a container: the one that the path leads to now, whatever was prepared when nobody waited."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mesocosm.launcher.operations import HostFile, ReceiveMounts, Root
from mesocosm.linux.namespaces import Namespace, unshare

pytestmark = pytest.mark.kernel


def replace(file: Path) -> None:
    file.with_name("new").write_text("new")
    file.with_name("new").rename(file)


@pytest.mark.parametrize(("change", "seen"), [(lambda _: None, "old"), (replace, "new")], ids=["same", "replaced"])
def test_the_one_that_is_there_when_it_is_mounted(tmp_path: Path, change: Callable[[Path], None], seen: str) -> None:
    file, container = tmp_path / "file", tmp_path / "container"
    file.write_text("old")
    container.mkdir()
    with ThreadPoolExecutor(1) as apart:  # A thread with mounts of its own, which are gone with it.
        assert apart.submit(show, file, container, change).result() == seen
    assert file.read_text() == seen
    assert (container / file.relative_to("/")).read_text() == "", "the mount point, with nothing mounted"


def show(file: Path, container: Path, change: Callable[[Path], None]) -> str:
    """What a container sees of a file that was prepared, and written to as far as that is possible."""
    before = descriptors()
    unshare(Namespace.MOUNT)
    host = Root(os.open("/", os.O_PATH))
    ReceiveMounts().apply(host)
    host.close()
    operation = HostFile(str(file), create=True)
    prepared = {operation.likeness: operation.prepare()}
    change(file)
    root = Root(os.open(container, os.O_PATH), prepared=prepared)
    operation.apply(root)
    root.close()
    shown = container / file.relative_to("/")
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        shown.write_text("changed")
    assert descriptors() == before
    return shown.read_text()


def descriptors() -> int:
    return len(os.listdir(f"/proc/self/task/{threading.get_native_id()}/fd"))  # noqa: PTH208 - of /proc.
