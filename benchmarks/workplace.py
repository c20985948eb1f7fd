"""Where the benchmarks run: the root file system of every container, and directories for what is written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workplace:
    """`state` is a tmpfs, for what runtimes keep in /run, which not every machine has on one. `work` is a disk's."""

    rootfs: Path
    state: Path
    work: Path


@contextmanager
def workplace() -> Iterator[Workplace]:
    """A workplace that is removed in the end."""
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir=_tmpfs()) as state:
        yield Workplace(_make_rootfs(Path(disk, "rootfs")), Path(state), Path(disk, "work"))


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
