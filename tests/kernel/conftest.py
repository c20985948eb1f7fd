"""What the tests of containers share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docker_daemon import shared_docker
from tests.executor_agent import certificate, executor_agent
from tests.kernel.cgroup_support import legacy
from tests.launching import launch
from tests.mounts import shared_mount, source
from tests.tls import certificates

__all__ = [
    "certificate",
    "certificates",
    "executor_agent",
    "launch",
    "legacy",
    "set_user_id_grep",
    "shared_docker",
    "shared_mount",
    "source",
]


@pytest.fixture
def set_user_id_grep(run_directory: Path) -> str:
    """A program of root's with the set-user-id bit, which anybody may execute, and which can show its own status."""
    found = shutil.which("grep", path="/usr/bin:/bin")
    assert found is not None
    program = Path(shutil.copy(Path(found).resolve(), run_directory / "grep"))
    program.chmod(0o4755)
    return str(program)
