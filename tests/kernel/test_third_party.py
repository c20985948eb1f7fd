"""The isolator of the package in `examples/`, installed as any other package is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import MESOCOSM, TIMEOUT, CommandLine

pytestmark = pytest.mark.kernel
PACKAGE = Path(__file__).parents[2] / "examples" / "acme-isolators"
ISOLATION = "filesystem/linux,namespaces/pid,acme/deadline"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variable with which the package is there; nothing is fetched for it."""
    target, source = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("source")
    for file in PACKAGE.glob("*.*"):
        (source / file.name).write_bytes(file.read_bytes())  # What is built leaves traces next to its source.
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": str(target)}


@pytest.fixture
def command_line(run_directory: Path, unique_name: str) -> CommandLine:
    return CommandLine(run_directory, unique_name)


def test_it_ends_a_container_at_its_deadline(command_line: CommandLine, installed: dict[str, str]) -> None:
    limited = ("--isolation", ISOLATION, "--env", "DEADLINE=1", "--", "sleep", "60")
    done = command_line.run(*limited, env={**os.environ, **installed})
    assert (done.returncode, done.stderr) == (137, b"mesocosm: the deadline of 1 s is over\n")
    free = command_line.run("--isolation", ISOLATION, "--", "true", env={**os.environ, **installed})
    assert (free.returncode, free.stderr) == (0, b"")


def test_it_refuses_what_makes_no_sense(command_line: CommandLine, installed: dict[str, str]) -> None:
    done = command_line.run(
        "--isolation", ISOLATION, "--env", "DEADLINE=soon", "--", "true", env={**os.environ, **installed}
    )
    assert done.returncode == 125
    assert b"DEADLINE=soon is no number; write seconds" in done.stderr


def test_the_doctor_lists_it(installed: dict[str, str]) -> None:
    done = subprocess.run(
        [*MESOCOSM, "doctor", "--json"],
        env={**os.environ, **installed},
        check=True,
        capture_output=True,
        timeout=TIMEOUT,
    )
    [found] = [entry for entry in json.loads(done.stdout)["isolators"] if entry["name"] == "acme/deadline"]
    assert found["works"]
    assert found["what"].startswith("A container with DEADLINE=SECONDS")


def test_it_is_unknown_where_it_is_not_installed(command_line: CommandLine) -> None:
    done = command_line.run("--isolation", ISOLATION, "--", "true")
    assert done.returncode == 125
    assert b"there is no isolator 'acme/deadline'" in done.stderr
