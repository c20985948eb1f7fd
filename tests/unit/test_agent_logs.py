"""The log: what a line looks like, where it goes, and how much there is."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesocosm.agent.logs import FILE, Logs
from mesocosm.errors import FlagError

OWN = logging.getLogger("mesocosm.test")
OTHER = logging.getLogger("elsewhere")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Loop:
    """The timers of an event loop."""

    def __init__(self) -> None:
        self.timers: dict[object, tuple[float, Callable[[], None]]] = {}

    def call_later(self, delay: float, callback: Callable[[], None]) -> Loop.Handle:
        handle = Loop.Handle(self)
        self.timers[handle] = (delay, callback)
        return handle

    def fire(self) -> None:
        for handle, (_, callback) in list(self.timers.items()):
            del self.timers[handle]
            callback()

    class Handle:
        def __init__(self, loop: Loop) -> None:
            self.loop = loop

        def cancel(self) -> None:
            self.loop.timers.pop(self, None)


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """The loggers of the process as they were."""
    root, own = logging.getLogger(), logging.getLogger("mesocosm")
    before = (list(root.handlers), root.level, own.level)
    root.handlers = []
    yield
    root.handlers = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def install(stream: io.StringIO, level: str = "INFO", **more: object) -> Logs:
    logs = Logs(level, stream=stream, environment={}, **more)  # type: ignore[arg-type]
    logs.install()
    return logs


def told() -> None:
    """One line of each level."""
    for name in ("debug", "info", "warning", "error"):
        getattr(OWN, name)("own %s", name)
        getattr(OTHER, name)("other %s", name)


def words(stream: io.StringIO) -> list[str]:
    """Whose line of which level was logged since the last call."""
    found = re.findall(r"(own|other) (debug|info|warning|error)$", stream.getvalue(), re.MULTILINE)
    stream.seek(0)
    stream.truncate()
    return [" ".join(pair) for pair in found]


def test_a_line(stream: io.StringIO) -> None:
    install(stream)
    OWN.info("launched %s", "web", extra={"container": "web.kid", "pid": 7, "why": 'a "b" c=d', "none": ""})
    pattern = rf'{TIME} INFO mesocosm.test launched web container=web.kid pid=7 why="a \\"b\\" c=d" none=""\n'
    assert re.fullmatch(pattern, stream.getvalue())


@pytest.mark.parametrize("terminal", [False, True])
def test_a_message_cannot_end_its_line(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    install(stream)
    OWN.info("no\n2026 ERROR\r\x1b[31m such\x85\u2028 thing", extra={"name_given": "a\nb\x1b\x9b"})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith(r'no\n2026 ERROR\r\x1b[31m such\x85\u2028 thing name_given="a\nb\u001b\x9b"' + "\n")


def test_an_exception(stream: io.StringIO) -> None:
    install(stream)
    terminal = Terminal()
    try:
        raise ValueError("a\nb")
    except ValueError:
        OWN.exception("failed")
        Logs(stream=terminal, environment={}).install()
        OWN.exception("failed")
    assert re.fullmatch(
        rf'{TIME} ERROR mesocosm.test failed traceback="Traceback .*\\nValueError: a\\nb"\n', stream.getvalue()
    )
    assert "\nTraceback (most recent call last):\n" in terminal.getvalue()


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, False)],
)
def test_colour(environment: dict[str, str], coloured: bool) -> None:
    terminal = Terminal()
    Logs(stream=terminal, environment=environment).install()
    OWN.warning("careful")
    OWN.info("nothing")
    assert ("\x1b[33mWARNING\x1b[0m mesocosm.test careful" in terminal.getvalue()) is coloured
    assert " INFO mesocosm.test nothing\n" in terminal.getvalue()


def test_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        Logs(stream=journal, environment={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}).install()
        told()
        Logs(stream=journal, environment={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}).install()
        OWN.error("not the journal")
        journal.seek(0)
        lines = journal.read().splitlines()
    assert lines[:-1] == [
        "<6>INFO mesocosm.test own info",
        "<4>WARNING mesocosm.test own warning",
        "<4>WARNING elsewhere other warning",
        "<3>ERROR mesocosm.test own error",
        "<3>ERROR elsewhere other error",
    ]
    assert re.fullmatch(rf"{TIME} ERROR mesocosm.test not the journal", lines[-1])


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("INFO", ["own info", "own warning", "other warning", "own error", "other error"]),
        ("WARNING", ["own warning", "other warning", "own error", "other error"]),
        ("ERROR", ["own error", "other error"]),
    ],
)
def test_levels(stream: io.StringIO, level: str, expected: list[str]) -> None:
    install(stream, level)
    told()
    assert words(stream) == expected


@pytest.mark.parametrize("level", ["info", "DEBUG", "", "FATAL"])
def test_no_level(level: str) -> None:
    with pytest.raises(
        FlagError, match=f"--logging_level: there is no level '{level}'; give one of INFO, WARNING, ERROR"
    ):
        Logs(level)


def test_verbosity(stream: io.StringIO) -> None:
    loop = Loop()
    logs = install(stream, "WARNING", call_later=loop.call_later)
    logs.toggle(1, 10)
    assert logs.level == 1
    assert "INFO mesocosm.agent.logs the verbosity of the log is 1" in stream.getvalue()
    told()
    assert words(stream) == ["own debug", "own info", "own warning", "other warning", "own error", "other error"]
    logs.toggle(3, 20)
    assert [delay for delay, _ in loop.timers.values()] == [20], "the last call counts"
    told()
    assert len(words(stream)) == 8
    loop.fire()
    assert logs.level == 0
    told()
    assert words(stream) == ["own warning", "other warning", "own error", "other error"]


def test_verbosity_goes_back_at_once(stream: io.StringIO) -> None:
    loop = Loop()
    logs = install(stream, call_later=loop.call_later)
    logs.toggle(2, 10)
    logs.toggle(0, 10)
    assert logs.level == 0
    assert not loop.timers


async def test_verbosity_that_is_negative(stream: io.StringIO) -> None:
    logs = install(stream)
    with pytest.raises(FlagError, match="Invalid level '-1'"):
        logs.toggle(-1, 10)
    logs.toggle(1, 0)  # The timer of the running loop, where none is given.
    assert logs.level == 1


def test_the_file(stream: io.StringIO, tmp_path: Path) -> None:
    logs = install(stream, log_dir=tmp_path / "new" / "log")
    assert logs.path == tmp_path / "new/log" / FILE
    OWN.info("grün \udcff")
    assert logs.path.read_text() == stream.getvalue().replace("\udcff", r"\udcff")
    logs.path.rename(tmp_path / "old")
    OWN.info("still in the old one")
    logs.reopen()
    OWN.info("in the new one")
    assert "still in the old one" in (tmp_path / "old").read_text()
    assert re.fullmatch(rf"{TIME} INFO mesocosm.test in the new one\n", logs.path.read_text())


def test_a_file_that_cannot_be_opened_again(stream: io.StringIO, tmp_path: Path) -> None:
    logs = install(stream, log_dir=tmp_path / "log")
    assert logs.path is not None
    kept = logs.path.open()
    logs.path.unlink()
    logs.path.mkdir()
    logs.reopen()
    OWN.info("goes on")
    with kept:
        text = kept.read()
    assert f"{logs.path} cannot be opened again, the log goes on in the old file: Is a directory" in text
    assert "goes on\n" in text


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FlagError, match=rf"--log_dir: {tmp_path}/file(/log)?: (Not a directory|File exists)"):
        Logs(log_dir=tmp_path / "file" / "log")


def test_quiet(stream: io.StringIO, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    install(stream, quiet=True)
    OWN.error("unheard")
    logs = install(stream, quiet=True, log_dir=tmp_path)
    OWN.error("written")
    assert stream.getvalue() == ""
    assert capfd.readouterr().err == ""
    assert logs.path is not None
    assert "written" in logs.path.read_text()
    logs.reopen()
    Logs(quiet=True).reopen()


def test_the_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    Logs(environment={}).install()
    OWN.info("hello")
    assert re.fullmatch(rf"{TIME} INFO mesocosm.test hello\n", capsys.readouterr().err)
