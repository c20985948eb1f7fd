"""The executor of a task that brings a command: the agent makes it up (`Slave::getExecutorInfo` of Mesos)."""

from __future__ import annotations

from mesocosm.agent.tasks import allocation
from mesocosm.api import v1

_CPUS = 0.1
_MEM = 32.0
"""MB. What such an executor has beside its task (DEFAULT_EXECUTOR_CPUS, DEFAULT_EXECUTOR_MEM)."""
_REAPING = 2.0
"""Seconds that an executor has longer than its task to end (MAX_REAP_INTERVAL, and one more)."""
_LONGEST = 15
_SHOWN = 12
"""Characters of a command that its executor's name has."""


def executor_for(task: v1.TaskInfo, framework_id: v1.FrameworkID) -> v1.ExecutorInfo:
    """The executor of `task`, and of no other."""
    executor = v1.ExecutorInfo(
        executor_id=v1.ExecutorID(value=task.task_id.value),
        framework_id=framework_id,
        name=f"Command Executor (Task: {task.task_id.value}) (Command: {_shown(task.command)})",
        source=task.task_id.value,
        command=v1.CommandInfo(
            uris=task.command.uris,
            environment=task.command.environment if task.command.HasField("environment") else None,
            user=task.command.user if task.command.HasField("user") else None,
            shell=False,
            value="mesos-executor",
            arguments=["mesos-executor"],
        ),
        resources=[_overhead("cpus", _CPUS, task), _overhead("mem", _MEM, task)],
    )
    for field in ("container", "labels", "discovery"):
        if task.HasField(field):
            getattr(executor, field).CopyFrom(getattr(task, field))
    if task.kill_policy.HasField("grace_period"):
        grace = task.kill_policy.grace_period.nanoseconds + round(_REAPING * 1e9)
        executor.shutdown_grace_period.nanoseconds = grace
    return executor


def _shown(command: v1.CommandInfo) -> str:
    if command.shell:
        return f"sh -c '{_cut(command.value)}'" if command.HasField("value") else "NO COMMAND"
    if not command.HasField("value"):
        return "NO EXECUTABLE"
    return f"[{_cut(', '.join([command.value, *command.arguments]))}]"


def _cut(text: str) -> str:
    return f"{text[:_SHOWN]}..." if len(text) > _LONGEST else text


def _overhead(name: str, amount: float, task: v1.TaskInfo) -> v1.Resource:
    resource = v1.Resource(name=name, type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=amount))
    if (role := allocation.role(task.resources)) is not None:
        resource.allocation_info.role = role
    return resource
