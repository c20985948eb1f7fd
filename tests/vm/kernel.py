"""Debian's kernel, fetched with apt and unpacked into a cache; nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm import VirtualMachineError

# An unprivileged user's PATH may lack depmod and modprobe.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
META_PACKAGE = "linux-image-amd64"


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package at `root`; `release` is its name as in uname(1)."""

    root: Path
    release: str

    @property
    def image(self) -> Path:
        """What QEMU boots."""
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """What belongs on /lib/modules."""
        return self.root / "lib" / "modules"

    def load_order(self, *names: str) -> list[Path]:
        """The files of the modules `names`, each after those it depends on; without what is built in.

        Raises VirtualMachineError for a name that this kernel does not know.
        """
        options = ("--show-depends", "--all", "--config=/dev/null", "--dirname", self.root, "--set-version")
        lines = _output("modprobe", *options, self.release, *names).splitlines()
        files = [Path(line.split()[1]) for line in lines if line.startswith("insmod ")]
        return list(dict.fromkeys(files))


def find(cache: Path) -> Kernel:
    """Debian's present kernel in `cache`, where it is put if need be; or what is there if Debian cannot be asked.

    Raises VirtualMachineError if there is none.
    """
    cache.mkdir(parents=True, exist_ok=True)
    try:
        return _present(cache)
    except VirtualMachineError:
        cached = sorted(cache.glob("linux-image-*"), key=lambda root: root.stat().st_mtime)
        if not cached:
            raise
        return _open(cached[-1])


def _present(cache: Path) -> Kernel:
    try:
        package, file = _ask()
    except VirtualMachineError:
        # A fresh machine has no package lists yet.
        _update()
        package, file = _ask()
    root = cache / file.removesuffix(".deb")
    if not root.exists():
        _fetch(package, root)
    return _open(root)


def _ask() -> tuple[str, str]:
    """The name of the kernel package and of its file, which tells its version as well."""
    for line in _output("apt-cache", "depends", META_PACKAGE).splitlines():
        kind, _, package = line.strip().partition(": ")
        if kind == "Depends" and package.startswith("linux-image-"):
            # A line of --print-uris: 'URI' FILE SIZE HASH
            return package, _output("apt-get", "download", "--print-uris", package).split()[1]
    raise VirtualMachineError(f"{META_PACKAGE} depends on no kernel")


def _fetch(package: str, root: Path) -> None:
    # A directory with another name, renamed when it is complete: whatever has the final name can be used.
    with tempfile.TemporaryDirectory(dir=root.parent) as directory:
        try:
            _download(package, directory)
        except VirtualMachineError:
            # Lists of packages go out of date, and old packages go from the archive.
            _update()
            _download(package, directory)
        [file] = Path(directory).glob("*.deb")
        unpacked = Path(directory) / "unpacked"
        _output("dpkg-deb", "--extract", file, unpacked)
        _output("depmod", "--basedir", unpacked, _release(unpacked))
        for old in root.parent.glob("linux-image-*"):
            shutil.rmtree(old)
        unpacked.rename(root)


def _download(package: str, directory: str) -> None:
    # Apt's own user could not write to the directory.
    _output("apt-get", "download", "-o", "APT::Sandbox::User=root", package, directory=directory)


def _update() -> None:
    if os.geteuid() == 0:
        _output("apt-get", "-qq", "update")


def _open(root: Path) -> Kernel:
    return Kernel(root, _release(root))


def _release(root: Path) -> str:
    [modules] = (root / "lib" / "modules").iterdir()
    return modules.name


def _output(*command: str | Path, directory: str | None = None) -> str:
    result = subprocess.run(
        command, cwd=directory, env={**os.environ, "PATH": PATH, "LC_ALL": "C"}, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise VirtualMachineError(f"{' '.join(map(str, command))}: {result.stderr.strip()}")
    return result.stdout
