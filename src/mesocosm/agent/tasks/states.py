"""What the states of a task mean."""

from __future__ import annotations

from mesocosm.api import v1

TERMINAL = frozenset(
    {
        v1.TASK_FINISHED,
        v1.TASK_FAILED,
        v1.TASK_KILLED,
        v1.TASK_LOST,
        v1.TASK_ERROR,
        v1.TASK_DROPPED,
        v1.TASK_GONE,
        v1.TASK_GONE_BY_OPERATOR,
    }
)
"""After which nothing more is heard of a task (Mesos, `protobuf::isTerminalState`)."""


def is_terminal(state: v1.TaskState) -> bool:
    """Whether a task in this state has come to its end."""
    return state in TERMINAL
