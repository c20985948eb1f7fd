"""The end of `make test`, of which a reader may see the last lines alone; and tests that hang."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conftest import free_threads
from tests.setup import junit, summary


def test_what_failed_is_said_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit.add(tmp_path / "a.xml", "lint", "passed", "")
    junit.add(tmp_path / "b.xml", "test_x", "failed", "assert 1 == 2\n  +1\n")
    junit.add(tmp_path / "b.xml", "test_y", "skipped", "no root")
    assert summary.main(tmp_path, ["a", "b"]) == 1
    assert capsys.readouterr().out == "failed: b: test_x: assert 1 == 2 +1\n1 passed, 1 failed, 1 skipped\n"


def test_long_lists_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(summary.MOST_LINES + 2):
        junit.add(tmp_path / "a.xml", f"test_{number}", "failed", "long " * 1000)
    assert summary.main(tmp_path, ["a"]) == 1
    *lines, more, _ = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines} == {summary.LINE_LENGTH}
    assert more == "and 2 more"


AGAIN = """
import time
import pytest
from tests.conftest import pytest_exception_interact

runs = 0

def test_second():
    global runs
    runs += 1
    assert runs == 2

def test_always():
    pass

skips = 0

def test_skips():
    global skips
    skips += 1
    assert skips == 2
    pytest.skip("nothing here")

hangs = 0

@pytest.mark.timeout(1, func_only=True)
def test_hangs():
    global hangs
    hangs += 1
    time.sleep(60 if hangs < 3 else 0)
"""


def test_what_failed_before_is_said(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run has the time that a test has."""
    checkout = str(Path(__file__).parents[2])
    pytester.makeconftest(f"import sys; sys.path.append({checkout!r}); from tests.conftest import *")
    pytester.makepyfile(test_it=AGAIN)
    assert pytester.runpytest_subprocess("--reruns=1", "--junit-xml=a.xml", timeout=30).ret == 1
    capsys.readouterr()
    assert summary.main(pytester.path, ["a"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "failed once, and not when run again: a: test_it::test_second: assert 1 == 2",
        "failed once, and not when run again: a: test_it::test_skips: assert 1 == 2",
        "failed: a: test_it::test_hangs: Failed: Timeout (>1.0s) from pytest-timeout.",
        "2 passed, 1 failed, 1 skipped",
    ]


@pytest.mark.parametrize("opens", ["read_text", "write_text"])
async def test_the_threads_of_a_failed_test_do_not_wait_for_ever(run_directory: Path, opens: str) -> None:
    os.mkfifo(fifo := run_directory / "fifo")
    waiting = asyncio.ensure_future(asyncio.to_thread(getattr(fifo, opens), *([""] if opens == "write_text" else [])))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    free_threads(run_directory)
    assert await waiting in ("", 0)
