"""What those who see to tasks have in common."""

from __future__ import annotations

from dataclasses import dataclass

from mesocosm.agent.tasks.background import Background
from mesocosm.agent.tasks.containers import Containers
from mesocosm.agent.tasks.counters import Counters
from mesocosm.agent.tasks.drain import Drain
from mesocosm.agent.tasks.framework import Frameworks
from mesocosm.agent.tasks.recorder import Recorder
from mesocosm.agent.tasks.registration import Registration
from mesocosm.agent.tasks.remains import Remains
from mesocosm.agent.tasks.reservations import Reservations
from mesocosm.hooks import Hooks


@dataclass(frozen=True, slots=True)
class Parts:
    """The state of an agent's tasks, and what is done with it: one of each in an agent."""

    registration: Registration
    frameworks: Frameworks
    containers: Containers
    reservations: Reservations
    recorder: Recorder
    remains: Remains
    drain: Drain
    counters: Counters
    background: Background
    hooks: Hooks
