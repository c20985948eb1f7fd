"""Where the benchmarks run: the root file system of every container, and directories for what is written."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesocosm.linux.namespaces import Namespace, unshare

_BYTES = 4 << 30
"""Of the disk, as far as something is written there."""


@dataclass(frozen=True)
class Workplace:
    """`state` is a tmpfs, for what runtimes keep in /run, which not every machine has on one. `work` is on a disk."""

    rootfs: Path
    state: Path
    work: Path


@contextmanager
def workplace() -> Iterator[Workplace]:
    """A workplace that is removed in the end. From then on, this process has mounts of its own."""
    unshare(Namespace.MOUNT)
    _run("mount", "--make-rprivate", "/")
    with _disk() as disk, tempfile.TemporaryDirectory(dir=_tmpfs()) as state:
        yield Workplace(_make_rootfs(disk / "rootfs"), Path(state), disk / "work")


@contextmanager
def _disk() -> Iterator[Path]:
    """An ext4 with its journal, as disks of users have it.

    Without a journal, as on some virtual machines, every new file takes longer the more have been removed in the last
    minutes (find_inode_bit and recently_deleted in fs/ext4/ialloc.c): up to a millisecond after some thousand.
    """
    with tempfile.TemporaryDirectory() as directory:
        image, disk = Path(directory, "image"), Path(directory, "disk")
        with image.open("wb") as file:
            file.truncate(_BYTES)
        if shutil.which("mkfs.ext4") is None:
            raise SystemExit("mkfs.ext4 is not installed (Debian: e2fsprogs)")
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        disk.mkdir()
        _run("mount", "-o", "loop", str(image), str(disk))
        try:
            yield disk
        finally:
            _run("umount", "--lazy", str(disk))  # Gone with the last who uses it, be it one whose end has failed.


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _tmpfs() -> str | None:
    directory = Path("/dev/shm")
    return str(directory) if directory.exists() else None


def _make_rootfs(root: Path) -> Path:
    """A root file system of busybox, with the commands that the benchmarks run."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox is not installed (Debian: busybox-static)")
    for name in ("bin", "dev", "etc", "mnt", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "sleep", "true"):
        (root / "bin" / name).symlink_to("busybox")
    return root
