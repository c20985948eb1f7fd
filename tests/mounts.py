"""Mounts of the host for tests, and files to mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def source(run_directory: Path) -> Path:
    """A directory of the host."""
    directory = run_directory / "source"
    (directory / "below").mkdir(parents=True)
    (directory / "file").write_text("of the host\n")
    return directory


@pytest.fixture
def shared_mount(run_directory: Path) -> Iterator[Path]:
    """A mount of the host that has peers."""
    directory = run_directory / "shared"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    subprocess.run(["mount", "--make-shared", directory], check=True)
    (directory / "point").mkdir()
    yield directory
    subprocess.run(["umount", "-R", "-l", directory], check=True)


def mount_tmpfs(directory: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)


def make_private(directory: Path) -> None:
    subprocess.run(["mount", "--make-private", directory], check=True)


def unmount(directory: Path) -> None:
    subprocess.run(["umount", directory], check=True)


def is_mounted(directory: Path) -> bool:
    return f" {directory} " in Path("/proc/self/mountinfo").read_text()
