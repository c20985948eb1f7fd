"""Runs pytest, or a shell command, in the virtual machine.

    python -m tests.vm                                    the tests in FILES, without those that are marked `slow`
    python -m tests.vm tests/kernel/test_pids.py -x       with other arguments for pytest
    python -m tests.vm --shell 'cat /proc/version; ip a'  a command instead, at the root of the checkout
    python -m tests.vm --systemd                          tests/kernel/test_service.py, where systemd is the init

The exit status is that of the command in the guest; 77, after a reason, where no such machine can be had.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.setup.junit import Counts
from tests.setup.step import SKIPPED
from tests.vm import VirtualMachineError, initramfs, kernel, machine

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".cache" / "vm"
KERNEL_TESTS = CHECKOUT / "tests" / "kernel"
TOOLS = (machine.QEMU, "busybox", "cpio", "depmod", "modprobe", "dpkg-deb", "apt-get")
FILES = (
    "test_cgroup_*.py",
    "test_disk_xfs.py",
    "test_image_overlay.py",
    "test_kernel_filesystems.py",
    "test_launcher.py",
    "test_recovery.py",
    "test_rlimits.py",
)
"""Of tests/kernel, those that can come out differently there: by another kernel, by cgroup v2 with all controllers, by
XFS with quotas, by how overlayfs is told of layers, by privileges that a host may lack. What lies above these comes out
as it does on the host, and takes ten times as long. Single tests of the files for which that is true, too, are marked
`slow`."""
SERVICE_TESTS = "test_service.py"
SYSTEMD = Path("/lib/systemd/systemd")


def main() -> int:
    """Runs what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm", usage="%(prog)s [options] [pytest arguments]", allow_abbrev=False
    )
    parser.add_argument("--shell", metavar="COMMAND", help="run this in the guest instead of pytest")
    parser.add_argument("--systemd", action="store_true", help="boot a guest whose init is systemd")
    parser.add_argument("--timeout", type=float, default=2350, help="seconds until the guest counts as hung")
    parser.add_argument("--memory", type=int, default=3072, help="of the guest, in MiB")
    parser.add_argument("--accelerator", default="tcg,thread=multi", help="QEMU's -accel, for example kvm")
    parser.add_argument("--junit-xml", type=Path, metavar="FILE", help="where to write the results of pytest")
    options, pytest_arguments = parser.parse_known_args()
    started = time.monotonic()
    if reason := _unavailable(systemd=options.systemd):
        return _refuse(reason)
    try:
        debian = kernel.find(CACHE)
    except VirtualMachineError as error:
        return _refuse(str(error))
    command = options.shell or _pytest(
        pytest_arguments, (SERVICE_TESTS,) if options.systemd else FILES, options.timeout / 3
    )
    try:
        outcome = machine.run(
            debian.image,
            initramfs.build(debian, CHECKOUT, command, init="systemd" if options.systemd else "", scratch=CACHE),
            memory=options.memory,
            accelerator=options.accelerator,
            timeout=options.timeout,
            log=CACHE / ("console-systemd.log" if options.systemd else "console.log"),
        )
        tests = None if options.shell else _results(outcome, options.junit_xml)
    except VirtualMachineError as error:
        _say(f"failed: {error}")
        return 1
    summary = f"exit status {outcome.status}" if tests is None else f"{tests}"
    _say(f"{summary}, on Linux {debian.release} in {time.monotonic() - started:.0f} s")
    return outcome.status


def _pytest(arguments: list[str], patterns: Sequence[str], seconds: float) -> str:
    """The command that runs the tests that match `patterns`, in so many seconds each, unless `arguments` differ."""
    files = sorted(file.relative_to(CHECKOUT) for pattern in patterns for file in KERNEL_TESTS.glob(pattern))
    # Given no files, pytest takes those of testpaths; of two -m, the latter. So every default can be overridden.
    words = [
        *("python", "-m", "pytest", "-p", "no:cacheprovider", "-o", f"testpaths={' '.join(map(str, files))}"),
        *("-o", f"timeout={seconds:.0f}", "-m", "kernel and not slow", *arguments),
    ]
    _compile(words[1:])
    return shlex.join([*words, f"--junit-xml={machine.RESULTS}/junit.xml"])


def _compile(pytest: list[str]) -> None:
    """Compiles here, where it takes a moment, what the guest would be busy with for a minute."""
    compileall.compile_dir(CHECKOUT / "src", quiet=2)
    # Tests are compiled by pytest, in its own way, when it collects them. What is wrong with them, the guest tells.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    collect = [sys.executable, *pytest, "--collect-only"]
    subprocess.run(collect, cwd=CHECKOUT, env=env, stdout=subprocess.DEVNULL, check=False)


def _results(outcome: machine.Outcome, copy: Path | None) -> Counts:
    file = CACHE / "junit.xml" if copy is None else copy
    try:
        file.write_bytes(outcome.files["junit.xml"])
        return Counts.read(file)
    except (KeyError, ElementTree.ParseError) as error:
        raise VirtualMachineError(f"pytest wrote no results; its exit status was {outcome.status}") from error


def _unavailable(*, systemd: bool) -> str:
    if platform.machine() != "x86_64":
        return f"Debian's kernel for x86-64 does not run the programs of a machine of type {platform.machine()}"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=kernel.PATH) is None]
    missing += [str(SYSTEMD)] if systemd and not SYSTEMD.exists() else []
    return f"missing on this machine: {', '.join(missing)}" if missing else ""


def _refuse(reason: str) -> int:
    """A machine on which all that is missing can be installed must not pass without the virtual machine."""
    if os.geteuid() == 0 and platform.freedesktop_os_release()["ID"] == "debian":
        _say(f"failed: {reason}")
        return 1
    _say(f"skipped: {reason}")
    return SKIPPED


def _say(text: str) -> None:
    sys.stdout.write(f"tests.vm: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
