"""The states of a task that others need to tell apart who have no messages of Mesos to look at."""

from __future__ import annotations

TERMINAL = frozenset(
    {
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_LOST",
        "TASK_ERROR",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    }
)
"""After which nothing more is heard of a task (Mesos, `protobuf::isTerminalState`)."""
