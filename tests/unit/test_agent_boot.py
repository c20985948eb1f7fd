"""Whether the machine was booted since the last agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.agent import boot
from mesocosm.agent.boot import Boot


@pytest.fixture(autouse=True)
def this_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "boot_id", lambda: "this")


def test_the_first_agent(tmp_path: Path) -> None:
    found = Boot.find(tmp_path)
    assert (found.is_new, found.is_recorded) == (False, False)
    found.record()
    assert (tmp_path / "boot_id").read_text() == "this"
    assert [path.name for path in tmp_path.iterdir()] == ["boot_id"]


def test_another_agent_of_the_same_boot(tmp_path: Path) -> None:
    (tmp_path / "boot_id").write_text("this\n")
    found = Boot.find(tmp_path)
    assert (found.is_new, found.is_recorded) == (False, True)
    (tmp_path / "boot_id").unlink()
    found.record()
    assert not (tmp_path / "boot_id").exists(), "a full disk does not matter then"


@pytest.mark.parametrize("recorded", [b"another", b"", b"\xff"])
def test_after_a_boot(tmp_path: Path, recorded: bytes) -> None:
    (tmp_path / "boot_id").write_bytes(recorded)
    assert Boot.find(tmp_path).is_new
    Boot.find(tmp_path).record()
    assert not Boot.find(tmp_path).is_new


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"{tmp_path}/none/boot_id"):
        Boot.find(tmp_path / "none").record()
