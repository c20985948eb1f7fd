"""Tasks that somebody brings who is no master: read from JSON, and completed with what a master would say."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mesocosm.api import internal, v1
from mesocosm.api.json import from_json, unknown_fields
from mesocosm.api.resources import validate_gpus, validate_resources
from mesocosm.api.validation import is_of_docker, validate_command, validate_container, validate_id
from mesocosm.libprocess.address import NOBODY

_ROLE = "*"
_EXECUTOR_NEEDS = {"cpus": 0.1, "mem": 32.0}
"""Of the executor of a group, as much as `mesos-execute` gives it."""
_CAPABILITIES = ("TASK_KILLING_STATE", "PARTITION_AWARE", "RESERVATION_REFINEMENT")


@dataclass(frozen=True, slots=True)
class Submission:
    """Tasks that run together: a `TaskInfo` alone, or those of a `TaskGroupInfo` in one executor."""

    tasks: tuple[v1.TaskInfo, ...]
    grouped: bool

    @classmethod
    def read(cls, value: Any, agent_id: str) -> Submission:
        """The tasks for an agent out of JSON, a `TaskGroupInfo` if it has `tasks`. Raises ValueError in one line."""
        if not isinstance(value, dict):
            raise ValueError("this is neither a TaskInfo nor a TaskGroupInfo: it is no object of JSON")
        grouped = "tasks" in value
        given = value["tasks"] if grouped else [value]
        if grouped and len(value) > 1:
            raise ValueError(f"a TaskGroupInfo has no field {next(name for name in value if name != 'tasks')!r}")
        if not isinstance(given, list) or not given:
            raise ValueError("a TaskGroupInfo takes a list of tasks, at least one")
        places = [f"tasks[{index}]: " if grouped else "" for index in range(len(given))]
        tasks = tuple(_read_task(task, agent_id, place) for task, place in zip(given, places, strict=True))
        if (wrong := next(_mistakes(tasks, grouped), None)) is not None:
            raise ValueError(wrong)
        return cls(tasks, grouped)

    def message(self, framework: v1.FrameworkInfo) -> Message:
        """What a master sends to have them run."""
        if not self.grouped:
            return internal.RunTaskMessage(
                framework=framework, task=self.tasks[0], pid=str(NOBODY), launch_executor=True
            )
        executor = v1.ExecutorInfo(
            type=v1.ExecutorInfo.DEFAULT, executor_id=v1.ExecutorID(value="default"), framework_id=framework.id
        )
        executor.resources.extend(_scalar(name, amount) for name, amount in _EXECUTOR_NEEDS.items())
        group = v1.TaskGroupInfo(tasks=self.tasks)
        return internal.RunTaskGroupMessage(
            framework=framework, executor=executor, task_group=group, launch_executor=True
        )


def new_framework(name: str, user: str, principal: str | None) -> v1.FrameworkInfo:
    """A framework for one submission. It ends with whoever asked for it, so nothing of it is for later."""
    return v1.FrameworkInfo(
        id=v1.FrameworkID(value=str(uuid.uuid4())),
        name=name,
        user=user,
        principal=principal,
        roles=[_ROLE],
        checkpoint=False,
        capabilities=[v1.FrameworkInfo.Capability(type=each) for each in ("MULTI_ROLE", *_CAPABILITIES)],
    )


def _read_task(value: Any, agent_id: str, place: str) -> v1.TaskInfo:
    """A TaskInfo; its name may be left out, and so may where it is to run. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}this is no TaskInfo: it is no object of JSON")
    if "agent_id" in value and value["agent_id"] != {"value": agent_id}:
        raise ValueError(f"{place}agent_id: this agent is {agent_id}; leave it out")
    if (unknown := next(unknown_fields(value, v1.TaskInfo), None)) is not None:
        raise ValueError(f"{place}a TaskInfo has no field {unknown}")
    identity = value.get("task_id")
    name = identity.get("value") if isinstance(identity, Mapping) else None
    task = from_json({"name": name, **value, "agent_id": {"value": agent_id}}, v1.TaskInfo)
    for resources in (task.resources, task.executor.resources if task.HasField("executor") else ()):
        for resource in resources:
            resource.allocation_info.role = _ROLE
            resource.ClearField("role")
    return task


def _mistakes(tasks: Sequence[v1.TaskInfo], grouped: bool) -> Iterator[str]:
    """What a master would refuse (`master/validation.cpp`)."""
    seen: set[str] = set()
    for task in tasks:
        task_id = task.task_id.value
        for reason in _mistakes_of(task, grouped):
            if reason is not None:
                yield f"the task {task_id!r}: {reason}"
        if task_id in seen:
            yield f"two tasks have the id {task_id!r}"
        seen.add(task_id)


def _mistakes_of(task: v1.TaskInfo, grouped: bool) -> Iterator[str | None]:
    yield validate_id(task.task_id.value)
    yield validate_resources(task.resources) or validate_gpus(task.resources)
    if grouped and task.HasField("executor"):
        yield "a task of a group has no executor of its own; leave it out"
    if not grouped and task.HasField("executor") == task.HasField("command"):
        yield "it takes either a command or an executor"
    if task.HasField("command"):
        yield validate_command(task.command)
    if task.HasField("container"):
        if grouped and is_of_docker(task):
            yield "Docker ContainerInfo is not supported on the task; let it run alone, or give it a container of Mesos"
        yield validate_container(task.container)


def _scalar(name: str, amount: float) -> v1.Resource:
    return v1.Resource(
        name=name,
        type=v1.Value.SCALAR,
        scalar=v1.Value.Scalar(value=amount),
        allocation_info=v1.Resource.AllocationInfo(role=_ROLE),
    )
