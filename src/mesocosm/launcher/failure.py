"""From what an init reports of a launch that failed to the error that a caller gets."""

from __future__ import annotations

import errno
import os

from mesocosm.container import ContainerID
from mesocosm.errors import CommandError, ContainerError
from mesocosm.launcher.messages import Kind, Report

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def error_of(container_id: ContainerID, report: Report | None) -> ContainerError:
    """The error that says what failed; its cause is the OSError of the init."""
    if report is None or report.kind not in (Kind.FAILED, Kind.NOT_EXECUTED):
        return ContainerError(f"{container_id}: the container's init ended before the command ran")
    cause = OSError(report.value, os.strerror(report.value), report.path or None)
    error: ContainerError
    if report.kind is Kind.NOT_EXECUTED:
        not_found = report.value == errno.ENOENT
        text = "not found" if not_found else os.strerror(report.value)
        status = _NOT_FOUND if not_found else _NOT_EXECUTABLE
        error = CommandError(f"{container_id}: the command {report.path!r} cannot be executed: {text}", status)
    else:
        where = f" ({report.path})" if report.path and report.path not in report.step else ""
        error = ContainerError(f"{container_id}: {report.step} failed: {os.strerror(report.value)}{where}")
    error.__cause__ = cause
    return error
