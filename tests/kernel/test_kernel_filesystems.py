"""/proc, /sys and /dev of a container with a root filesystem of its own; made in two ways, by what the kernel can do.

Each test launches twice: the second container may get an init that has made them in advance.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launching import Launch

pytestmark = pytest.mark.kernel
LINUX = "filesystem/linux,namespaces/pid"


@pytest.fixture(autouse=True, params=["at once", pytest.param("in advance", marks=pytest.mark.slow)])
async def when(request: pytest.FixtureRequest, launch: Launch, rootfs: Path) -> str:
    """Whether another container was launched before, with the isolation of the test."""
    if request.param == "in advance":
        assert await launch.output("true", isolation=LINUX, rootfs=rootfs) == ""
    return str(request.param)


async def test_nothing_of_the_host_is_mounted(launch: Launch, rootfs: Path) -> None:
    output = await launch.output("cat /proc/self/mountinfo", isolation=LINUX, rootfs=rootfs)
    points = [line.split()[4] for line in output.splitlines()]
    assert set(points) >= {"/", "/proc", "/sys", "/dev"}
    # The last three, read-only, are what names mean in the network of the host.
    expected = ("/proc", "/sys", "/dev", "/mnt/mesos/sandbox", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    assert [point for point in points if point != "/" and not point.startswith(expected)] == []
    assert points.count("/") == 1


async def test_the_old_root_cannot_be_reached(launch: Launch, rootfs: Path, run_directory: Path) -> None:
    (run_directory / "of-the-host").touch()
    script = f"cd /; cd ../../..; pwd; ls -d {run_directory} 2>&1; chroot /proc/1/root ls /; ls /.. | tr '\\n' ' '"
    container = await launch(script, isolation=LINUX, rootfs=rootfs)
    assert await container.wait() == 0
    assert "of-the-host" not in container.stream()
    assert "No such file" in container.stream()


async def test_devices(launch: Launch, rootfs: Path) -> None:
    output = await launch.output("cd /dev; ls; stat -c '%a %t %T' null zero full random urandom tty", rootfs=rootfs)
    names = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    lines = output.splitlines()
    assert set(lines[:-6]) == names | {"tty", "urandom", "zero"}
    assert lines[-6:] == ["666 1 3", "666 1 5", "666 1 7", "666 1 8", "666 1 9", "666 5 0"]
    script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; echo 1 > /dev/full 2>/dev/null || echo full; ls /dev/pts"
    assert (await launch.output(script, rootfs=rootfs, user="app")).split() == ["4", "full", "ptmx"]


WRITABLE = ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq", "/sys/kernel", "/sys")


async def test_files_of_the_kernel_cannot_be_written(launch: Launch, rootfs: Path) -> None:
    write = "if [ -d $path ]; then touch $path/x; else : >> $path; fi"
    script = f"for path in {' '.join(WRITABLE)}; do ({write}) 2>/dev/null && echo $path; done; true"
    assert await launch.output(script, isolation=LINUX, rootfs=rootfs) == ""


HIDDEN = (
    *("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/interrupts", "/sys/firmware"),
    *("/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu0/thermal_throttle"),
)


async def test_files_of_the_kernel_that_are_hidden(launch: Launch, rootfs: Path) -> None:
    found = [path for path in HIDDEN if Path(path).exists()]
    assert found
    read = "if [ -d $path ]; then ls $path; else head -c 100 $path; fi"
    script = f"for path in {' '.join(found)}; do [ $({read} | wc -c) = 0 ] || echo $path; done"
    script += f"; for path in {' '.join(found)}; do [ -d $path ] && mkdir $path/new 2> /dev/null && echo $path; done; :"
    assert await launch.output(script, isolation=LINUX, rootfs=rootfs) == ""
