"""A small root file system for containers: busybox, a few users, and the directories that a container expects."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

FILES = {
    "etc/passwd": """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
""",
    "etc/group": """\
root:x:0:
app:x:1000:
logs:x:2001:app
data:x:2002:root,app
nogroup:x:65534:
""",
    "etc/hostname": "rootfs\n",
}
APP = (1000, 1000, (2001, 2002))
"""The ids of the user `app`: its own, its group's, and those of its supplementary groups."""

_DIRECTORIES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777} | dict.fromkeys(
    ("bin", "dev", "etc", "home", "home/app", "mnt", "proc", "run", "sys", "usr", "var"), 0o755
)
_LINKS = {"sbin": "bin", "usr/bin": "../bin", "usr/sbin": "../bin"}


def missing() -> str | None:
    """Why no root file system can be made here; None where it can."""
    busybox = shutil.which("busybox")
    if busybox is None:
        return "busybox is not installed (Debian: busybox-static)"
    with open(busybox, "rb") as file:
        # The name of the dynamic loader is in one of the first segments.
        return "busybox is not linked statically (Debian: busybox-static)" if b"/ld-" in file.read(4096) else None


def make(root: Path) -> Path:
    """Makes the root file system in the directory `root`, which may exist, and returns it."""
    for name, mode in _DIRECTORIES.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)  # Whatever the umask is.
    root.chmod(0o755)
    for name, content in FILES.items():
        (root / name).write_text(content)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    os.chown(root / "home/app", *APP[:2])
    _install_busybox(root / "bin")
    return root


def _install_busybox(directory: Path) -> None:
    busybox = directory / "busybox"
    shutil.copy(str(shutil.which("busybox")), busybox)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    for applet in set(applets.split()) - {"busybox"}:
        (directory / applet).symlink_to("busybox")
