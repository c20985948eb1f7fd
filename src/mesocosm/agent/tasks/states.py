"""What the states of a task mean."""

from __future__ import annotations

from mesocosm import task_states
from mesocosm.api import v1

TERMINAL = frozenset(map(v1.TaskState.Value, task_states.TERMINAL))
"""After which nothing more is heard of a task."""


def is_terminal(state: v1.TaskState) -> bool:
    """Whether a task in this state has come to its end."""
    return state in TERMINAL
