"""Copies out of a sandbox, whose files have names that a container has chosen."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.cli.files import Copy, Sandbox
from mesocosm.client import Json
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection

LONG = "n" * 255
"""As long as the name of a file may be (NAME_MAX)."""


class Given(Sandbox):
    """One whose directories are known."""

    def __init__(self, directories: dict[str, dict[str, str]]) -> None:
        super().__init__(Connection(Address.parse("http://127.0.0.1:1")), "c", "/root")
        self._directories = directories

    def list(self, path: str) -> list[Json]:
        return [
            {"path": posixpath.join("/root", path, name), "mode": mode}
            for name, mode in self._directories.get(path, {}).items()
        ]

    def read(self, path: str) -> Iterator[bytes]:
        yield path.encode()


def test_a_tree_may_be_deeper_than_python_calls_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What has no room here is left out, and the rest is there."""
    tree = {"/".join(["d"] * depth): {"d": "drwxr-xr-x"} for depth in range(1, 500)}
    copy = Copy(Given({"": {"d": "drwxr-xr-x", LONG + "n": "-rw-r--r--", "z": "-rw-r--r--"}, **tree}))
    copy.add("", None, tmp_path / "to")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("File name too long")
    assert copy.status == 125
    assert (tmp_path / "to/z").read_text() == "z"
    assert (tmp_path / "to" / "/".join(["d"] * 500)).is_dir()


def test_a_name_may_be_as_long_as_names_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Copy(Given({"": {LONG: "-rw-r--r--", "other": "-rw-r--r--"}}))
    copy.add("", None, tmp_path / "to")
    assert capsys.readouterr().err == ""
    assert {path.name for path in (tmp_path / "to").iterdir()} == {LONG, "other"}


def test_a_link_is_followed_and_not_replaced(tmp_path: Path) -> None:
    """As root, a copy to /dev/stdout would take that from everybody."""
    (tmp_path / "file").write_text("before, and longer")
    (tmp_path / "link").symlink_to("file")
    Copy(Given({})).add("name", {"path": "/root/name", "mode": "-rw-r--r--"}, tmp_path / "link")
    assert (tmp_path / "link").readlink() == Path("file")
    assert (tmp_path / "file").read_text() == "name"
