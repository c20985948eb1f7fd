"""The log of the agent: one line for each event, on the standard error and in a file.

A line is the time, the level, the logger and the message, followed by what was given as `extra`:

    2026-11-21T10:00:00.123456Z INFO mesocosm.agent.agent launched container=web

The levels of `--logging_level` are those of Mesos. The logging level of its API is another number, the verbosity of
glog: 0 is what the flag says, and more tells details.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Protocol, TextIO

from mesocosm.errors import FlagError

logger = logging.getLogger(__name__)

FILE = "mesocosm-agent.log"
VIRTUAL_PATH = "/slave/log"
"""Where the file is among those that the agent shows."""
LEVELS = ("INFO", "WARNING", "ERROR")
"""What `--logging_level` can be."""

_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""What the journal calls the levels: sd-daemon(3)."""
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""The attributes that every record has. The others were given as `extra`."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"=\x00-\x1f\x7f-\x9f]+")


class Timer(Protocol):
    """What `call_later` of an event loop returns."""

    def cancel(self) -> None:
        """Makes it not happen."""


CallLater = Callable[[float, Callable[[], None]], Timer]


class Logs:
    """Which lines the process logs, and where they go."""

    def __init__(
        self,
        level: str = "INFO",
        *,
        quiet: bool = False,
        log_dir: Path | None = None,
        stream: TextIO | None = None,
        environment: Mapping[str, str] = os.environ,
        call_later: CallLater | None = None,
    ) -> None:
        """Not to `stream`, the standard error, if `quiet`; to a file in `log_dir`, which is made. Raises FlagError."""
        if level not in LEVELS:
            raise FlagError(f"--logging_level: there is no level {level!r}", f"give one of {', '.join(LEVELS)}")
        self.level = 0
        self.path = None if log_dir is None else log_dir / FILE
        self._threshold = logging.getLevelNamesMapping()[level]
        self._call_later = call_later
        self._revert: Timer | None = None
        self._shown = None if quiet else _handler(stream or sys.stderr, environment)
        self._kept = None if self.path is None else _handler(_create(self.path), {})

    def install(self) -> None:
        """Has all that the process logs from now on go this way, in place of any other."""
        handlers: list[logging.Handler] = [handler for handler in (self._shown, self._kept) if handler is not None]
        logging.basicConfig(handlers=handlers or [logging.NullHandler()], force=True)
        self._apply()

    def reopen(self) -> None:
        """Makes the file anew, as somebody has renamed it. If that cannot be done, the log goes on in the old one."""
        if self.path is None or self._kept is None:
            return
        try:
            old = self._kept.setStream(_open(self.path))
        except OSError as error:
            logger.error("%s cannot be opened again, the log goes on in the old file: %s", self.path, error.strerror)
            return
        if old is not None:
            old.close()

    def toggle(self, level: int, duration: float) -> None:
        """Has the verbosity `level` for so many seconds, then 0 again. The last call counts.

        Raises FlagError for a level below 0.
        """
        if level < 0:
            raise FlagError(f"Invalid level '{level}'")
        call_later = self._call_later or asyncio.get_running_loop().call_later
        if self._revert is not None:
            self._revert.cancel()
            self._revert = None
        self._set(level)
        if level != 0:
            self._revert = call_later(duration, lambda: self._set(0))

    def _set(self, level: int) -> None:
        self.level = level
        self._apply()
        logger.info("the verbosity of the log is %d", level)

    def _apply(self) -> None:
        """0: the level of the flag, of other libraries warnings only. 1: details of Mesocosm. 2: of all libraries."""
        own = self._threshold if self.level < 1 else logging.DEBUG
        others = max(self._threshold, logging.WARNING) if self.level < 2 else logging.DEBUG
        logging.getLogger("mesocosm").setLevel(own)
        logging.getLogger().setLevel(others)


class _Form(Enum):
    """For whom a line is: it begins with the time, or with a priority, or has colours."""

    FILE = "file"
    JOURNAL = "journal"
    TERMINAL = "terminal"


class _Formatter(logging.Formatter):
    """Lines that a message, whoever it came from, can neither end nor colour."""

    def __init__(self, form: _Form) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._form is _Form.TERMINAL and (colour := _COLOURS.get(record.levelno)):
            level = f"\033[{colour}m{level}\033[0m"
        line = f"{level} {record.name} {_escaped(record.getMessage())}{''.join(_context(record))}"
        if self._form is _Form.JOURNAL:
            line = f"<{_PRIORITIES.get(record.levelno, 6)}>{line}"
        else:
            line = f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ} {line}"
        if not trace:
            return line
        # People read it best in lines, and programs in the line that it belongs to.
        return f"{line}\n{trace}" if self._form is _Form.TERMINAL else f"{line}{_pair('traceback', trace)}"


def _context(record: logging.LogRecord) -> Iterator[str]:
    for key, value in vars(record).items():
        if key not in _STANDARD:
            yield _pair(key, str(value))


def _pair(key: str, value: str) -> str:
    return f" {key}={value if _PLAIN.fullmatch(value) else _escaped(json.dumps(value, ensure_ascii=False))}"


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _handler(stream: TextIO, environment: Mapping[str, str]) -> logging.StreamHandler[TextIO]:
    form = _Form.FILE
    if _is_journal(stream, environment):
        form = _Form.JOURNAL
    elif stream.isatty() and "NO_COLOR" not in environment and environment.get("TERM") != "dumb":
        form = _Form.TERMINAL
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(form))
    return handler


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd has connected to the journal: systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _create(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open(path)
    except OSError as error:
        raise FlagError(f"--log_dir: {error.filename}: {error.strerror}") from error


def _open(path: Path) -> TextIO:
    return path.open("a", encoding="utf-8", errors="backslashreplace")
