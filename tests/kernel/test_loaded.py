"""What is forked of a process that is loaded is to its caller what the program itself is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import loaded as under_test
from tests.command_line import TIMEOUT, CommandLine

pytestmark = pytest.mark.kernel
Start = Callable[..., "subprocess.Popen[Any]"]


@pytest.fixture(params=[subprocess.Popen, under_test.start])
def start(request: pytest.FixtureRequest, loaded: None) -> Start:
    found: Start = request.param
    return found


def test_streams_status_and_environment(
    start: Start, run_directory: Path, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what the process had that it was forked of, but what its caller has, and says."""
    monkeypatch.setenv("OWN", "here")
    monkeypatch.chdir(run_directory)
    command = ("sh", "-c", "echo up; read line; echo $OWN $line; echo bad >&2; exit 3")
    argv = CommandLine(run_directory, unique_name).argv("--interactive", "--env", "OWN", "--", *command)
    with start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        seen = Path("/proc", str(process.pid))
        assert (seen / "cwd").readlink() == run_directory
        assert process.communicate(b"said\n", TIMEOUT) == (b"here said\n", b"bad\n")
    assert process.returncode == 3


def test_it_is_a_child_that_is_killed(start: Start, run_directory: Path, unique_name: str) -> None:
    argv = CommandLine(run_directory, unique_name).argv("--", "sh", "-c", "echo up; exec sleep 1000")
    with start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert process.poll() is None
        process.kill()
        assert process.wait(TIMEOUT) == -9
