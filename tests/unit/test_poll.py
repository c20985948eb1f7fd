"""Waiting for files of the kernel that change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mesocosm.linux.poll import ChangeWatcher


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is of Linux")
@pytest.mark.parametrize(("name", "refusal"), [("file", PermissionError), (".", IsADirectoryError)])
async def test_what_cannot_be_watched_is_not_kept_open(tmp_path: Path, name: str, refusal: type[OSError]) -> None:
    """An ordinary file opens, but epoll takes none (EPERM); a directory opens, too, but cannot be read."""
    (tmp_path / "file").touch()
    watcher, opened = ChangeWatcher(), []
    for _ in range(2):
        with pytest.raises(refusal):
            watcher.add(str(tmp_path / name), lambda _: None)
        opened.append(len(list(Path("/proc/self/fd").iterdir())))
    watcher.close()
    assert opened[0] == opened[1]
