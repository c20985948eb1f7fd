"""The steps of a launch: each has a name, by which a failure of it is reported."""

from __future__ import annotations

import os
from types import TracebackType

from mesocosm.launcher.messages import Kind, Report


class Failure(Exception):
    """A step of the launch failed; the report says which."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report


class Step:
    """Names what is being done, so that an OSError of it becomes a report. `what` is turned into text only then."""

    __slots__ = ("_what",)

    def __init__(self, what: object) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if isinstance(error, OSError):
            path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
            raise Failure(Report(Kind.FAILED, error.errno or 0, step=str(self._what), path=path)) from error
