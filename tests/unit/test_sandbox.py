"""A sandbox: what is opened in it, and that it goes with a launch that was not complete, unless something is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesocosm.container import ContainerID
from mesocosm.containerizer.base import ContainerIO
from mesocosm.containerizer.sandbox import open_sandbox, remove_sandbox, remove_unused_sandbox
from tests.few_descriptors import open_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
X = ContainerID("x")
Y = ContainerID("y", X)


@pytest.mark.parametrize("names", [[], ["stdout"], ["stdout", "stderr"]])
def test_an_unused_one(tmp_path: Path, names: list[str]) -> None:
    sandbox = tmp_path / "x"
    sandbox.mkdir()
    for name in names:
        (sandbox / name).touch()
    remove_unused_sandbox(X, sandbox)
    assert list(tmp_path.iterdir()) == []
    remove_unused_sandbox(X, sandbox)


@pytest.mark.parametrize(
    "use",
    [
        lambda sandbox: (sandbox / "stdout").write_text("precious"),
        lambda sandbox: (sandbox / "other").touch(),
        lambda sandbox: (sandbox / "stdout").mkdir(),
        lambda sandbox: (sandbox / "stdout").symlink_to("elsewhere"),
    ],
)
def test_one_with_something_in_it(tmp_path: Path, use: Callable[[Path], object]) -> None:
    sandbox = tmp_path / "x"
    sandbox.mkdir()
    use(sandbox)
    before = list(sandbox.iterdir())
    remove_unused_sandbox(X, sandbox)
    assert list(sandbox.iterdir()) == before


def test_a_link_in_its_place(tmp_path: Path) -> None:
    """Which a container may have put there, in its own sandbox."""
    elsewhere, inside = tmp_path / "elsewhere", tmp_path / "x/containers"
    elsewhere.mkdir()
    inside.mkdir(parents=True)
    (inside / "y").symlink_to(elsewhere)
    remove_unused_sandbox(Y, inside / "y")
    assert elsewhere.exists()


def test_a_sandbox_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    """A container makes directories in directories: more than there are descriptors, or calls within one another."""
    sandbox = tmp_path / "x"
    sandbox.mkdir()
    here = os.open(sandbox, os.O_RDONLY)
    for _ in range(2 * sys.getrecursionlimit()):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_sandbox(X, sandbox)
    assert not sandbox.exists()


def test_output_that_cannot_be_given_to_its_owner_is_not_kept_open(tmp_path: Path) -> None:
    """Its mode cannot be changed, as it can only be appended to (FS_APPEND_FL, ioctl_iflags(2))."""
    output = tmp_path / "x/stdout"
    output.parent.mkdir()
    output.touch()
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+a", output], check=False).returncode:
        pytest.skip("no chattr (Debian: e2fsprogs), no root, or a file system without attributes")
    held = open_descriptors()
    try:
        with open_sandbox(X, output.parent, None) as sandbox, pytest.raises(PermissionError):
            sandbox.streams(ContainerIO()).__enter__()
    finally:
        subprocess.run(["chattr", "-a", output], check=True)
    assert open_descriptors() == held
