"""What an executor says of its tasks, in the words of Mesos (`TaskStatus` of mesos.proto)."""

from __future__ import annotations

import base64
import os
import signal
import time
import uuid
from typing import Any

Json = dict[str, Any]
"""A message of Mesos, as JSON."""


def make(executor_id: str, task_id: str, state: str, **more: Any) -> Json:
    """A status with the fields `more` that are not None."""
    status = {
        "task_id": {"value": task_id},
        "state": state,
        "source": "SOURCE_EXECUTOR",
        "executor_id": {"value": executor_id},
        **_fresh(),
    }
    return status | {name: value for name, value in more.items() if value is not None}


def again(status: Json, **changes: Any) -> Json:
    """A new status of the same state."""
    return status | _fresh() | changes


def describe(status: int) -> str:
    """What wait(2) says of a command, as Mesos does (stout/os/wait.hpp): a signal by its name."""
    if os.WIFSIGNALED(status):
        dumped = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"Command terminated with signal {signal.strsignal(os.WTERMSIG(status))}{dumped}"
    return f"Command exited with status {os.WEXITSTATUS(status)}"


def _fresh() -> Json:
    return {"uuid": base64.b64encode(uuid.uuid4().bytes).decode(), "timestamp": time.time()}
