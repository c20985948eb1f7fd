"""What all tests share: a machine compared before and after, directories, cgroups and root file systems."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from mesocosm.flags import Flags
from tests import rootfs as root_file_system
from tests.agent_process import AgentProcess, agent_process
from tests.image_store import DirectoryStore
from tests.loaded import forking
from tests.machine import (
    VARIABLE,
    Machine,
    Scope,
    await_end,
    descendants,
    difference,
    hierarchies,
    mount_points,
    settle,
)
from tests.setup import junit

pytest_plugins = ["pytester"]
hypothesis.settings.register_profile("any machine", deadline=None)  # One that is busy, or emulated, is no failure.
hypothesis.settings.load_profile("any machine")
_BEFORE = pytest.StashKey[Machine]()
SETTLE_SECONDS = 5.0
"""How long after a test its processes may take to end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need what this machine or user has not."""
    if sys.platform != "linux":
        reason = "needs Linux"
    elif os.geteuid() != 0:
        reason = "needs root"
    else:
        return
    for item in items:
        if item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, report: pytest.TestReport | pytest.CollectReport
) -> None:
    """Notes how a test failed, which may be run again, and frees its threads."""
    if isinstance(node, pytest.Item):
        crash = getattr(report.longrepr, "reprcrash", None)
        node.user_properties.append((junit.FAILED_BEFORE, crash.message if crash else str(report.longrepr)))
        free_threads(getattr(node, "funcargs", {}).get("run_directory"))


def free_threads(directory: Path | None) -> None:
    """Frees those that wait at a FIFO for somebody who does not come. An event loop would not end before they do."""
    for parent, _, names in () if directory is None else os.walk(directory):
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):  # What the test has started may go on with its files.
                if path.is_fifo():
                    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


@pytest.fixture(autouse=True)
def unchanged_machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a kernel test that leaves anything of what it made, or takes away what it did not make.

    It is the first fixture of a test to be set up and the last to be torn down, but for those that it asks for.
    """
    if request.node.get_closest_marker("kernel") is None:
        yield
        return
    request.getfixturevalue("tmp_path_factory").getbasetemp()  # Made once, by the first that asks.
    flags: Flags = request.getfixturevalue("flags")
    scope = Scope(flags.cgroups_root, flags.runtime_dir, exclusive="CI" in os.environ)
    # Where the test is run again, what its first run has left is left still.
    before = request.node.stash.setdefault(_BEFORE, Machine.snapshot(scope))
    yield
    after = settle(before, lambda: Machine.snapshot(scope), SETTLE_SECONDS)
    if lines := difference(before, after):
        # Only what is surely the test's own is killed. What merely bears its name may be somebody else's.
        for pid in {process.pid for process in after.processes - before.processes} & descendants(after.processes):
            _kill(pid)
        pytest.fail("the test changed the machine:\n  " + "\n  ".join(lines), pytrace=False)


@pytest.fixture
def unique_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that only this run of this test has, in its environment too, and short enough for an interface."""
    name = f"test-{secrets.token_hex(5)}"
    monkeypatch.setenv(VARIABLE, name)
    return name


@pytest.fixture
def run_directory(unique_name: str) -> Iterator[Path]:
    """A directory with a short path, for sockets, that other users can reach, unlike `tmp_path`."""
    directory = Path(tempfile.gettempdir(), unique_name)
    directory.mkdir(mode=0o755)
    yield directory
    _remove_directory(directory)


@pytest.fixture
def cgroups_root(unique_name: str) -> Iterator[str]:
    """The name of a cgroup of the test's own, removed with all that is left in it."""
    yield unique_name
    directories = [
        Path(directory)
        for hierarchy in hierarchies()
        for directory, _, _ in os.walk(hierarchy / unique_name, topdown=False)
    ]
    for state in (directory / "freezer.state" for directory in directories):
        if state.exists():
            state.write_text("THAWED")  # Cgroup v1: what is frozen does not die.
    pids = {int(pid) for directory in directories for pid in (directory / "cgroup.procs").read_text().split()}
    pids -= {0, os.getpid()}  # 0 is one that this pid namespace does not show.
    for pid in pids:
        _kill(pid)
    for pid in pids:
        await_end(pid, time.monotonic() + SETTLE_SECONDS)
    for directory in directories:
        directory.rmdir()


@pytest.fixture
def flags(run_directory: Path, cgroups_root: str) -> Flags:
    """Flags with directories and cgroups of the test's own."""
    return Flags(work_dir=run_directory / "work", runtime_dir=run_directory / "run", cgroups_root=cgroups_root)


@pytest.fixture(scope="session")
def loaded() -> Iterator[None]:
    """A process of which agents and commands are forked: see tests/loaded.py."""
    with forking():
        yield


@pytest.fixture
def agent(flags: Flags, run_directory: Path, loaded: None) -> Iterator[AgentProcess]:
    """An agent that the test starts, with directories and cgroups of the test's own."""
    with agent_process(flags, run_directory) as process:
        yield process


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A root file system that is never written to: see tests/rootfs.py."""
    if reason := root_file_system.missing():
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="rootfs-"))
    yield root_file_system.make(directory)
    _remove_directory(directory)


@pytest.fixture
def writable_rootfs(rootfs: Path, run_directory: Path) -> Path:
    """A root file system that is the test's own."""
    return root_file_system.make(run_directory / "rootfs")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    """A store that hands out the images that the test puts into it."""
    found = DirectoryStore()
    monkeypatch.setattr("mesocosm.images.provisioner.ImageStore", lambda *_: found)
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _remove_directory(directory: Path) -> None:
    """Removes a directory, but nothing that a mount left in it leads to."""
    for mount in reversed([path for path in mount_points() if directory in path.parents]):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(directory)
