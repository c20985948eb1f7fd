"""What is counted of tasks, from the start of the agent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Numbers that only grow; `ended` has how many tasks came to each terminal state."""

    valid_status_updates: int = 0
    invalid_status_updates: int = 0
    valid_framework_messages: int = 0
    invalid_framework_messages: int = 0
    executors_terminated: int = 0
    ended: Counter[int] = field(default_factory=Counter)
