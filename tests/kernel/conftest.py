"""What the tests of containers share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.launching import launch

__all__ = ["launch", "set_user_id_grep"]


@pytest.fixture
def set_user_id_grep(run_directory: Path) -> str:
    """A program of root's with the set-user-id bit, which anybody may execute, and which can show its own status."""
    found = shutil.which("grep", path="/usr/bin:/bin")
    assert found is not None
    program = Path(shutil.copy(Path(found).resolve(), run_directory / "grep"))
    program.chmod(0o4755)
    return str(program)
