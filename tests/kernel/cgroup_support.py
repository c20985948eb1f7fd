"""What the tests of cgroups share: processes that wait until they are put where they belong."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.base import CgroupIsolator
from mesocosm.linux import cgroup

CONTAINER = ContainerID("c")
MB = 1 << 20
AnyIsolator = TypeVar("AnyIsolator", bound=CgroupIsolator)


class Blocked:
    """A shell script that starts when it is released; the shell is the process that a test isolates."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            ["sh", "-c", f"read -r start; {script}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def release(self) -> Blocked:
        """Lets the script run."""
        self.write("start")
        return self

    def write(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def read(self) -> str:
        """The next line of its output, without its end; "" when there will be none."""
        assert self.process.stdout
        return self.process.stdout.readline().removesuffix("\n")

    def wait(self) -> int:
        """Its exit status, or less the signal that ended it. Blocks: no event loop runs meanwhile."""
        return self.process.wait(60)


@contextmanager
def blocked(script: str) -> Iterator[Blocked]:
    """A shell script that waits to be released. It is killed at the end, should it still run."""
    process = Blocked(script)
    try:
        yield process
    finally:
        process.process.kill()
        for stream in (process.process.stdin, process.process.stdout):
            assert stream
            stream.close()
        process.wait()


def config(**fields: object) -> ContainerConfig:
    """What is asked of a container whose command does not matter."""
    return ContainerConfig(CommandInfo("true"), **fields)  # type: ignore[arg-type]


def created(isolator: type[AnyIsolator], flags: Flags) -> AnyIsolator:
    """The isolator; the test is skipped where the host has not the controller."""
    try:
        isolator.find(flags)
    except UnsupportedError as error:
        pytest.skip(str(error))
    return isolator.create(flags)


def a_group(kind: str, name: str) -> str:
    """The directory of a cgroup of the test, not made yet, in a hierarchy of one kind."""
    mounted = cgroup.hierarchies()
    hierarchy = mounted.unified if kind == "unified" else mounted.of(kind)
    if hierarchy is None or (hierarchy.version == 2) != (kind == "unified"):
        pytest.skip(f"no cgroup hierarchy of the kind {kind}")
    return hierarchy.group(name)


@pytest.fixture
def legacy(flags: Flags) -> Iterator[Callable[..., Path]]:
    """Mounts hierarchies of cgroup v1, which a host may have mounted nowhere; returns where they are then.

    That of the freezer is there as well, for the launcher. A test asks for this before `launch`, whose containers have
    to be gone when they are unmounted.
    """
    # Not by the test's name: a mount namespace that is made at this time, whoever's, has them as well.
    directory = Path(tempfile.mkdtemp(prefix="cgroup-"))

    def mount(*controllers: str) -> Path:
        for controller in ("freezer", *controllers):
            path = directory / controller
            path.mkdir()
            command = ("mount", "-t", "cgroup", "-o", controller, "none", path)
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                pytest.skip(f"the {controller} controller of cgroup v1 cannot be mounted here: {result.stderr.strip()}")
        return directory

    yield mount
    for path in directory.iterdir():
        if path.is_mount():
            for group in cgroup.subtree(f"{path}/{flags.cgroups_root}"):
                cgroup.remove(group)
            subprocess.run(["umount", path], check=True)
        path.rmdir()
    directory.rmdir()


def group_of(flags: Flags, controller: str, container_id: ContainerID, unified: bool = False) -> str:
    """The directory of a container's cgroup, with `controller` on v1 or wherever it is."""
    mounted = cgroup.hierarchies(str(flags.cgroups_hierarchy))
    hierarchy = mounted.unified if unified else mounted.of(controller)
    assert hierarchy is not None
    return hierarchy.group(flags.cgroups_root, container_id.cgroup)


def alive(pid: int) -> bool:
    """Whether a child of this process has not ended."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
