"""The virtual machine: QEMU, without any help of the host's kernel."""

from __future__ import annotations

import asyncio
import sys
import tarfile
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.vm import VirtualMachineError

QEMU = "qemu-system-x86_64"
# In the guest: what is put here comes out.
RESULTS = "/run/results"
DISK_MEBIBYTES = 64
PARAMETERS = (
    *("console=ttyS0", "quiet"),
    *("panic=-1", "oops=panic"),  # A guest that panics or oopses reboots, which ends QEMU.
    "psi=1",
    # Emulated, what protects from the guesses of a processor only takes time, and so does a clock that is a device.
    *("mitigations=off", "tsc=reliable", "clocksource=tsc"),
)
"""Of the guest's kernel: Documentation/admin-guide/kernel-parameters.txt."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a guest: the exit status of its command and the files it put into RESULTS, by name."""

    status: int
    files: dict[str, bytes]


def run(kernel: Path, initramfs: bytes, *, memory: int, accelerator: str, timeout: float, log: Path) -> Outcome:
    """Boots a guest with `memory` MiB, shows its console until it powers off, and keeps the console in `log`.

    Raises VirtualMachineError if it does not power off within `timeout` seconds or leaves no results.
    """
    with tempfile.TemporaryDirectory(dir=log.parent) as directory:  # Tests of the host look at what comes into /tmp.
        archive = Path(directory) / "initramfs"
        archive.write_bytes(initramfs)
        disk = Path(directory) / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_MEBIBYTES << 20)
        command = [
            *(QEMU, "-machine", "pc", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", str(memory)),
            *("-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot"),
            *("-kernel", str(kernel), "-append", " ".join(PARAMETERS)),
            *("-initrd", str(archive)),
            *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
            *("-drive", f"file={disk},format=raw,if=virtio"),
        ]
        try:
            with log.open("wb") as console:
                asyncio.run(asyncio.wait_for(_boot(command, console), timeout))
            return _outcome(disk)
        except (TimeoutError, tarfile.TarError, KeyError) as error:
            reason = f"did not end within {timeout:g} s" if isinstance(error, TimeoutError) else "left no results"
            raise VirtualMachineError(f"the guest {reason}; its console is above and in {log}") from error


async def _boot(command: list[str], console: BinaryIO) -> None:
    guest = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    assert guest.stdout is not None
    try:
        while chunk := await guest.stdout.read(1 << 16):
            text = chunk.replace(b"\r", b"")
            for output in (console, sys.stdout.buffer):
                output.write(text)
                output.flush()
        await guest.wait()
    finally:
        if guest.returncode is None:
            guest.kill()
            await guest.wait()


def _outcome(disk: Path) -> Outcome:
    with tarfile.open(disk) as archive:
        files = {
            Path(member.name).name: content.read()
            for member in archive.getmembers()
            if (content := archive.extractfile(member)) is not None
        }
    return Outcome(int(files["status"]), files)
