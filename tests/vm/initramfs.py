"""The initial file system of the guest: busybox, the modules that reach the host's files, and what to run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.vm import VirtualMachineError
from tests.vm.kernel import Kernel

# The rest of the modules is loaded from the host's files.
MODULES = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay")


def build(kernel: Kernel, checkout: Path, command: str, *, init: str = "", scratch: Path) -> bytes:
    """A cpio archive with which `kernel` runs `command`, for sh, at the root of the checkout.

    With the `init` "systemd" that is a service, else all that runs. It is put together in a directory in `scratch`.
    Raises VirtualMachineError or OSError.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        root = Path(directory)
        _fill(root, kernel)
        settings = {
            "checkout": checkout,
            "modules": kernel.modules,
            "columns": shutil.get_terminal_size().columns,
            "init": init,
            "command": command,
        }
        text = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items())
        (root / "settings").write_text(text)
        return _archive(root)


def _fill(root: Path, kernel: Kernel) -> None:
    for name in ("bin", "dev", "host", "memory", "modules", "root"):
        (root / name).mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise VirtualMachineError("busybox is missing on this machine")
    shutil.copy(busybox, root / "bin")
    shutil.copy(Path(__file__).with_name("init.sh"), root / "init")
    for position, module in enumerate(kernel.load_order(*MODULES)):
        shutil.copy(module, root / "modules" / f"{position:02}-{module.name}")


def _archive(root: Path) -> bytes:
    names = [os.fsencode(path.relative_to(root)) for path in sorted(root.rglob("*"))]
    result = subprocess.run(
        ["cpio", "--quiet", "--create", "--null", "--format=newc", "--owner=0:0"],
        cwd=root,
        input=b"\0".join(names),
        capture_output=True,
    )
    if result.returncode != 0:
        raise VirtualMachineError(f"cpio: {result.stderr.decode()}")
    return result.stdout
