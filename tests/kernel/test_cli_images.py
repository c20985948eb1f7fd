"""`mesocosm run --image`, `mesocosm prune` and `mesocosm.run(image=…)`: no agent, no set-up."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

import mesocosm
from mesocosm.oneshot import runner
from tests.command_line import MESOCOSM, TIMEOUT, CommandLine
from tests.docker_archive import docker_archive
from tests.image_store import layer

pytestmark = pytest.mark.kernel


@pytest.fixture
def archive(rootfs: Path, run_directory: Path) -> str:
    """The reference of an image with a command of its own."""
    if platform.machine() != "x86_64":
        pytest.skip("the archive is for amd64")
    top = layer(run_directory / "top", {"greeting": "hello\n"})
    config = {"Entrypoint": ["cat"], "Cmd": ["/greeting"], "Env": ["A=image"], "User": "app"}
    return f"docker-archive:{docker_archive(run_directory / 'box.tar', 'box:latest', rootfs, top, **config)}"


@pytest.fixture
def run(run_directory: Path, unique_name: str) -> CommandLine:
    return CommandLine(run_directory, unique_name)


def output(run: CommandLine, archive: str, *arguments: str) -> str:
    done = run.run("--store", str(run.directory / "store"), "--image", archive, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    assert run.left() == []
    return done.stdout.decode()


def test_an_image_runs_its_own_command_or_another(run: CommandLine, archive: str) -> None:
    assert output(run, archive) == "hello\n"
    assert "app:x:1000" in output(run, archive, "--", "/etc/passwd"), "the entrypoint stays"
    assert output(run, archive, "--entrypoint", "", "--", "pwd") == "/\n"
    assert output(run, archive, "--entrypoint", "sh", "--", "-c", "echo $A; id -u") == "image\n1000\n"
    options = ("--env", "A=own", "--user", "0:logs", "--workdir", "/tmp", "--entrypoint", "sh")
    assert output(run, archive, *options, "--", "-c", "echo $A; id -g; pwd") == "own\n2001\n/tmp\n"


def test_what_root_in_an_image_may_do(run: CommandLine, archive: str) -> None:
    script = "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; mknod /x c 1 3 2>/dev/null && echo made"
    options = ("--user", "0", "--entrypoint", "sh")
    found = output(run, archive, *options, "--", "-c", f"{script}; true").split()
    assert found[:6:2] == ["CapBnd:", "NoNewPrivs:", "Seccomp:"]
    assert found.pop() == "made", "but it cannot open a disk"
    assert found[3::2] == ["1", "2"]
    assert not int(found[1], 16) & 1 << 21, "SYS_ADMIN"
    assert int(found[1], 16).bit_count() == 14
    isolation = ("--isolation", "filesystem/linux,namespaces/pid,docker/runtime,linux/capabilities")
    guarded = output(run, archive, *isolation, *options, "--", "-c", f"{script}; true").split()
    assert int(guarded[1], 16).bit_count() == 13, "without cgroups/devices, it makes no devices"
    assert "made" not in guarded
    done = run.run(
        "--store", str(run.directory / "store"), "--image", archive, "--privileged", *options, "--", "-c", script
    )
    assert done.stdout.split()[-3:] == [b"Seccomp:", b"0", b"made"]
    assert done.stderr.startswith(b"mesocosm: --privileged: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--image", "x", "--rootfs", "/", "true"), b"--image and --rootfs"),
        (("--image", "docker-archive:/nonexistent.tar", "true"), b"/nonexistent.tar"),
        (("--image", "x", "--pull", "never", "true"), b"write missing or always"),
        (("--image", "x", "--isolation", "filesystem/linux", "true"), b"--image: the isolator docker/runtime"),
    ],
)
def test_what_is_refused(run: CommandLine, arguments: tuple[str, ...], reason: bytes) -> None:
    done = run.run("--store", str(run.directory / "store"), *arguments)
    assert (done.returncode, reason in done.stderr, done.stderr.count(b"\n")) == (125, True, 1), done.stderr
    assert run.left() == []


def test_prune(run: CommandLine, archive: str) -> None:
    store = str(run.directory / "store")

    def prune() -> str:
        argv = [*MESOCOSM, "prune", "--store", store]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout

    options = ("--store", store, "--image", archive, "--entrypoint", "sh")
    with run.start("-i", *options, "--", "-c", "echo up; read -r end; cat /greeting", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        assert prune().startswith("0 images and 0 layers removed"), "a container uses it"
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b"hello\n"
        assert process.wait(TIMEOUT) == 0
    assert "1 image and 2 layers removed, " in prune()
    assert prune().startswith("0 images and 0 layers removed")


def test_the_library(archive: str, run_directory: Path) -> None:
    store = run_directory / "store"
    try:
        assert mesocosm.run((), image=archive, store=store).text == "hello\n"
        assert "app:x:1000" in mesocosm.run(("/etc/passwd",), image=archive, store=store).text
        assert mesocosm.run("echo $A; id -u", image=archive, store=store).text == "image\n1000\n"
    finally:
        runner.close()
