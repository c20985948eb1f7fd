"""What a `TaskInfo` says, as JSON."""

from __future__ import annotations

from mesocosm.executors.statuses import Json
from mesocosm.launcher.info import Command

KILL_GRACE_PERIOD = 3.0
"""Seconds, where neither the kill nor the task says anything."""


def id_of(task: Json) -> str:
    """Its name among the tasks of its framework."""
    return str(task["task_id"]["value"])


def command_of(command: Json) -> Command:
    """What a `CommandInfo` executes. Raises ValueError for one that says nothing."""
    if not command.get("value"):
        raise ValueError("the command has no value")
    if command.get("shell", True):
        return Command("/bin/sh", ("sh", "-c", command["value"]))
    return Command(command["value"], tuple(command.get("arguments", ())) or (command["value"],))


def variables_of(command: Json) -> dict[str, str]:
    """The variables of a `CommandInfo` whose values are no secrets."""
    variables = command.get("environment", {}).get("variables", ())
    return {each["name"]: each.get("value", "") for each in variables if each.get("type", "VALUE") == "VALUE"}


def role_of(task: Json) -> str:
    """The role that its resources were allocated to: one for all of them."""
    resources = task.get("resources") or [{}]
    return str(resources[0].get("allocation_info", {}).get("role", ""))


def seconds_of(duration: Json | None) -> float:
    """A `DurationInfo`; 0 for none."""
    return 0.0 if duration is None else int(duration["nanoseconds"]) / 1e9


def grace_period(kill: Json, task: Json, default: float = KILL_GRACE_PERIOD) -> float:
    """How many seconds a task has from SIGTERM to SIGKILL: the kill's policy counts, else that of the task."""
    for policy in (kill.get("kill_policy", {}), task.get("kill_policy", {})):
        if "grace_period" in policy:
            return seconds_of(policy["grace_period"])
    return default
