"""The comparison of the machine before and after each test sees what it is there for: real leaks, made and undone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.linux.namespaces import Namespace, unshare
from tests.machine import Machine, Scope, difference, hierarchies, settle

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]


@pytest.fixture
def scope(unique_name: str, run_directory: Path) -> Scope:
    return Scope(unique_name, run_directory / "run")


@contextmanager
def child(scope: Scope) -> Iterator[str]:
    """A child with nothing of the test about it."""
    with subprocess.Popen(["sleep", "60"], env={}, cwd="/", stdout=subprocess.DEVNULL) as process:
        yield f"{process.pid} sleep 60"
        process.kill()


@contextmanager
def zombie(scope: Scope) -> Iterator[str]:
    """A child that ended and was not waited for."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield f"{process.pid} true <defunct>"
    process.wait()


@contextmanager
def orphan(wrapper: str = "setsid", **options: Any) -> Iterator[str]:
    """A process whose parent is gone, in a session of its own."""
    script = f"{wrapper} sh -c 'echo $$; exec sleep 60 >/dev/null 2>&1' &"
    pid = int(subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE, **options).stdout)
    yield f"{pid} "
    os.kill(pid, signal.SIGKILL)


def orphan_by_environment(scope: Scope) -> AbstractContextManager[str]:
    return orphan(cwd="/")


def orphan_by_directory(scope: Scope) -> AbstractContextManager[str]:
    return orphan(cwd=scope.runtime_dir.parent, env={})


@contextmanager
def cgroup(scope: Scope) -> Iterator[str]:
    directory = hierarchies()[-1] / scope.name / "container"
    directory.mkdir(parents=True)
    yield str(directory)
    directory.rmdir()


@contextmanager
def mount(scope: Scope) -> Iterator[str]:
    target = scope.runtime_dir.parent / "mount"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
    yield f" {target} "
    subprocess.run(["umount", target], check=True)


@contextmanager
def interface(scope: Scope) -> Iterator[str]:
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed (Debian: iproute2)")
    subprocess.run(["ip", "link", "add", scope.name, "type", "veth"], check=True)
    yield scope.name
    subprocess.run(["ip", "link", "delete", scope.name], check=True)


@contextmanager
def namespace(scope: Scope) -> Iterator[str]:
    """A thread of this process that has moved."""
    moved, done = threading.Event(), threading.Event()

    def move() -> None:
        unshare(Namespace.UTS)
        moved.set()
        done.wait()

    thread = threading.Thread(target=move)
    thread.start()
    moved.wait()
    yield str(Path(f"/proc/self/task/{thread.native_id}/ns/uts").readlink())
    done.set()
    thread.join()


@contextmanager
def descriptor(scope: Scope) -> Iterator[str]:
    with open("/dev/zero", "rb") as file:
        yield f"{file.fileno()} /dev/zero"


@contextmanager
def thread(scope: Scope) -> Iterator[str]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="forgotten")
    thread.start()
    yield "forgotten"
    done.set()
    thread.join()


@contextmanager
def temporary_file(scope: Scope) -> Iterator[str]:
    path = Path(f"/dev/shm/{scope.name}-file")
    path.touch()
    yield str(path)
    path.unlink()


@contextmanager
def container_directory(scope: Scope) -> Iterator[str]:
    directory = scope.runtime_dir / "containers/c1"
    directory.mkdir(parents=True)
    yield str(directory)
    directory.rmdir()


@pytest.mark.parametrize(
    ("kind", "leak"),
    [
        ("processes", child),
        ("processes", zombie),
        ("processes", orphan_by_environment),
        ("processes", orphan_by_directory),
        ("cgroups", cgroup),
        ("mounts", mount),
        ("interfaces", interface),
        ("namespaces", namespace),
        ("descriptors", descriptor),
        ("threads", thread),
        ("directories", temporary_file),
        ("directories", container_directory),
    ],
)
def test_a_leak_is_seen(scope: Scope, kind: str, leak: Callable[[Scope], AbstractContextManager[str]]) -> None:
    before = Machine.snapshot(scope)
    with leak(scope) as what:
        lines = difference(before, Machine.snapshot(scope))
    assert [line for line in lines if line.startswith(f"{kind}: left ") and what in line]
    assert difference(before, settle(before, lambda: Machine.snapshot(scope))) == []


def test_the_process_of_somebody_else_does_not_count(scope: Scope) -> None:
    before = Machine.snapshot(scope)
    with orphan(cwd="/", env={}):
        assert difference(before, Machine.snapshot(scope)) == []


def test_a_process_set_apart_counts_on_an_exclusive_machine(scope: Scope) -> None:
    exclusive = replace(scope, exclusive=True)
    before = Machine.snapshot(exclusive)
    with orphan(cwd="/", env={}) as plain, orphan("setsid unshare --uts", cwd="/", env={}) as apart:
        lines = [line for line in difference(before, Machine.snapshot(exclusive)) if line.startswith("processes: left")]
    assert [line for line in lines if apart in line]
    assert not [line for line in lines if plain in line]


def test_what_is_lost_is_seen(scope: Scope) -> None:
    with mount(scope) as target:
        before = Machine.snapshot(scope)
    lines = difference(before, Machine.snapshot(scope))
    assert [line for line in lines if line.startswith("mounts: lost") and target in line]


def test_settling_waits_for_processes_that_end(scope: Scope) -> None:
    before = Machine.snapshot(scope)
    process = subprocess.Popen(["sleep", "0.2"])
    assert settle(before, lambda: Machine.snapshot(scope), timeout=0).processes > before.processes
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    assert settle(before, lambda: Machine.snapshot(scope)).processes == before.processes
    reaper.join()


def test_a_snapshot_is_cheap(scope: Scope) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        Machine.snapshot(scope)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.3


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Another run of pytest, with the fixtures of this one."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmarkers = ["kernel"]\nasyncio_mode = "auto"\n')
    return pytester


def test_a_test_that_leaks_fails(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import asyncio, os, pytest

        pytestmark = pytest.mark.kernel

        def test_clean(flags, cgroups_root):
            flags.work_dir.mkdir()

        async def test_clean_with_a_loop():
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()
            await asyncio.to_thread(os.getpid)

        def test_descriptor():
            os.open("/dev/zero", os.O_RDONLY)

        async def test_two_things_with_a_loop(flags):
            (flags.runtime_dir / "containers" / "c1").mkdir(parents=True)
            os.open("/dev/full", os.O_RDONLY)
        """
    )
    result = inner.runpytest_subprocess("-p", "tests.conftest", "-q")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_descriptor*",
            "  descriptors: left * /dev/zero",
            "*ERROR at teardown of test_two_things_with_a_loop*",
            "  descriptors: left * /dev/full",
            "  directories: left */run/containers/c1",
        ]
    )


def test_what_a_test_leaves_is_ended_before_the_next(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import os, pytest, subprocess
        from tests import conftest
        from tests.machine import hierarchies

        pytestmark = pytest.mark.kernel
        conftest.SETTLE_SECONDS = 0.1
        left = []

        def test_leaves(cgroups_root, run_directory):
            target = run_directory / "mount"
            target.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
            groups = [hierarchy / cgroups_root / "c1" for hierarchy in hierarchies()]
            process = subprocess.Popen(["sleep", "60"])
            for group in groups:
                group.mkdir(parents=True)
                if not (group / "cpuset.cpus").exists():  # Without CPUs it takes no process.
                    (group / "cgroup.procs").write_text(str(process.pid))
                if (group / "freezer.state").exists():
                    (group / "freezer.state").write_text("FROZEN")
            left.extend([process, target, *groups])

        def test_finds_nothing():
            process, *paths = left
            assert process.wait() == -9
            assert not [path for path in paths if path.exists()]
        """
    )
    result = inner.runpytest_subprocess("-p", "tests.conftest", "-q")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["  processes: left * sleep 60", "  cgroups: left */c1", "  mounts: left */mount *"])


def test_the_directory_of_this_run_is_not_compared(run_directory: Path) -> None:
    """It outlives the comparison; and another run of the test has another one."""
    own, others = (
        Scope(name, run_directory / "runtime", exclusive=True) for name in (run_directory.name, "test-other")
    )
    assert str(run_directory) not in Machine.snapshot(own).directories
    assert str(run_directory) in Machine.snapshot(others).directories
