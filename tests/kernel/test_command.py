"""`mesocosm run` with all its isolators together, as a user sees it, on whatever cgroups this kernel has."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.kernel
RUN = [sys.executable, "-m", "mesocosm", "run"]
HOG = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_the_strongest_isolation() -> None:
    result = run("--cpus", "1", "--mem", "64MB", "--pids", "20", "--", "sh", "-c", "echo $$; exit 7")
    assert (result.returncode, result.stderr) == (7, "")
    assert int(result.stdout) < 10, "a pid of its own namespace"


@pytest.mark.parametrize(("limit", "status"), [([], 0), (["--pids", "5"], 2)])
def test_the_limit_of_tasks(limit: list[str], status: int) -> None:
    script = "for n in 1 2 3 4 5 6 7 8; do sleep 60 & done"
    result = run(*limit, "--", "sh", "-c", script)
    assert result.returncode == status, result.stderr


def test_the_limit_of_memory() -> None:
    result = run("--mem", "32MB", "--", "sh", "-c", HOG)
    assert result.returncode == 137
    assert "Memory limit exceeded" in result.stderr


def test_root_without_the_right_to_mount() -> None:
    """As in an unprivileged container: nothing can be isolated, and that is said."""
    command = ["setpriv", "--bounding-set=-sys_admin", *RUN, "--", "echo", "hello"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (0, "hello\n")
    assert "nothing is isolated" in result.stderr
    asked = [*command[: command.index("--")], "--isolation", "filesystem/linux", "--", "true"]
    result = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 125
    assert "CAP_SYS_ADMIN" in result.stderr
