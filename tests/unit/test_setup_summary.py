"""The end of `make test`, of which a reader may see the last lines alone; and tests that hang."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conftest import pytest_exception_interact
from tests.setup import junit, summary


def test_what_failed_is_said_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit.add(tmp_path / "a.xml", "lint", "passed", "")
    junit.add(tmp_path / "b.xml", "test_x", "failed", "assert 1 == 2\n  +1\n")
    junit.add(tmp_path / "b.xml", "test_y", "skipped", "no root")
    assert summary.main(tmp_path, ["a", "b"]) == 1
    assert capsys.readouterr().out == "b: test_x: assert 1 == 2 +1\n1 passed, 1 failed, 1 skipped\n"


def test_long_lists_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(summary.MOST_FAILURES + 2):
        junit.add(tmp_path / "a.xml", f"test_{number}", "failed", "long " * 1000)
    assert summary.main(tmp_path, ["a"]) == 1
    *lines, more, _ = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines} == {summary.LINE_LENGTH}
    assert more == "and 2 more"


@pytest.mark.parametrize("opens", ["read_text", "write_text"])
async def test_the_threads_of_a_failed_test_do_not_wait_for_ever(
    request: pytest.FixtureRequest, run_directory: Path, opens: str
) -> None:
    os.mkfifo(fifo := run_directory / "fifo")
    waiting = asyncio.ensure_future(asyncio.to_thread(getattr(fifo, opens), *([""] if opens == "write_text" else [])))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    pytest_exception_interact(request.node)
    assert await waiting in ("", 0)
