"""What the agent tells of its frameworks, executors and tasks: as much as a principal may see of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mesocosm.agent import ownership
from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.agent.http.amounts import summary
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.framework import Framework, Frameworks, is_multi_role
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.api import v1
from mesocosm.api.json import to_json

TASKS = ("pending_tasks", "queued_tasks", "launched_tasks", "terminated_tasks", "completed_tasks")


class Shown:
    """The frameworks of an agent, as `principal` may see them."""

    def __init__(self, frameworks: Frameworks, authorizer: Authorizer, principal: str | None) -> None:
        self._frameworks = frameworks
        self._authorizer = authorizer
        self._principal = principal

    def state(self) -> dict[str, Any]:
        """The fields of /state."""
        return {
            "frameworks": [self._framework(each) for each in self._running()],
            "completed_frameworks": [self._framework(each) for each in self._completed()],
        }

    def get_frameworks(self) -> dict[str, Any]:
        """GET_FRAMEWORKS."""
        return {
            "frameworks": [{"framework_info": to_json(each.info)} for each in self._running()],
            "completed_frameworks": [{"framework_info": to_json(each.info)} for each in self._completed()],
        }

    def get_executors(self) -> dict[str, Any]:
        """GET_EXECUTORS."""
        every = [*self._running(), *self._completed()]
        return {
            "executors": [
                {"executor_info": to_json(each.info)}
                for framework in every
                for each in self._of(framework, framework.executors.values())
            ],
            "completed_executors": [
                {"executor_info": to_json(each.info)}
                for framework in every
                for each in self._of(framework, framework.completed_executors)
            ],
        }

    def get_tasks(self) -> dict[str, Any]:
        """GET_TASKS. None is pending: what arrives is queued at once."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in TASKS}
        for framework in (*self._running(), *self._completed()):
            for executor in (*framework.executors.values(), *framework.completed_executors):
                for task in self._tasks(framework, (*executor.tasks.values(), *executor.completed)):
                    found[f"{task.stage.value}_tasks"].append(to_json(task.message))
        return found

    # What may be seen.

    def _running(self) -> Iterator[Framework]:
        return self._seen(self._frameworks)

    def _completed(self) -> Iterator[Framework]:
        return self._seen(self._frameworks.completed.values())

    def _seen(self, frameworks: Iterable[Framework]) -> Iterator[Framework]:
        return (each for each in frameworks if self._may(Action.VIEW_FRAMEWORKS, each.info.user))

    def _of(self, framework: Framework, executors: Iterable[Executor]) -> Iterator[Executor]:
        return (each for each in executors if self._may(Action.VIEW_EXECUTORS, each.user or framework.info.user))

    def _tasks(self, framework: Framework, tasks: Iterable[Task]) -> Iterator[Task]:
        return (each for each in tasks if self._may(Action.VIEW_TASKS, each.message.user or framework.info.user))

    def _may(self, action: Action, user: str) -> bool:
        return ownership.allows(self._authorizer, self._principal, action, user)

    # As /state has it.

    def _framework(self, framework: Framework) -> dict[str, Any]:
        info = framework.info
        shown: dict[str, Any] = {
            "id": framework.id,
            "name": info.name,
            "user": info.user,
            "failover_timeout": info.failover_timeout,
            "checkpoint": info.checkpoint,
            "hostname": info.hostname,
        }
        if info.HasField("principal"):
            shown["principal"] = info.principal
        shown |= {"roles": list(info.roles)} if is_multi_role(info) else {"role": info.role}
        executors = self._of(framework, framework.executors.values())
        completed = self._of(framework, framework.completed_executors)
        shown["executors"] = [self._executor(framework, each) for each in executors]
        shown["completed_executors"] = [self._executor(framework, each) for each in completed]
        return shown

    def _executor(self, framework: Framework, executor: Executor) -> dict[str, Any]:
        info = executor.info
        shown: dict[str, Any] = {
            "id": executor.id,
            "name": info.name,
            "source": info.source,
            "container": executor.container_id.value,
            "directory": str(executor.directory),
            "resources": summary(executor.resources()),
        }
        if info.resources:
            shown["role"] = info.resources[0].allocation_info.role
        if info.HasField("labels"):
            shown["labels"] = to_json(info.labels)["labels"]
        if info.HasField("type"):
            shown["type"] = v1.ExecutorInfo.Type.Name(info.type)

        def tasks(of: Iterable[Task]) -> list[dict[str, Any]]:
            return [_task(task.message) for task in self._tasks(framework, of)]

        shown["tasks"] = tasks(executor.at(Stage.LAUNCHED))
        shown["queued_tasks"] = tasks(executor.at(Stage.QUEUED))
        shown["completed_tasks"] = tasks((*executor.completed, *executor.at(Stage.TERMINATED)))
        return shown


def _task(message: v1.Task) -> dict[str, Any]:
    """As `json(Task)` of Mesos (common/http.cpp)."""
    shown: dict[str, Any] = {
        "id": message.task_id.value,
        "name": message.name,
        "framework_id": message.framework_id.value,
        "executor_id": message.executor_id.value,
        "slave_id": message.agent_id.value,
        "state": v1.TaskState.Name(message.state),
        "resources": summary(message.resources),
    }
    if message.limits:
        shown["limits"] = {name: message.limits[name].value for name in message.limits}
    shown["role"] = message.resources[0].allocation_info.role if message.resources else "*"
    shown["statuses"] = list(map(_status, message.statuses))
    if message.HasField("user"):
        shown["user"] = message.user
    if message.HasField("labels"):
        shown["labels"] = to_json(message.labels)["labels"]
    for field in ("discovery", "container", "health_check"):
        if message.HasField(field):
            shown[field] = to_json(getattr(message, field))
    return shown


def _status(status: v1.TaskStatus) -> dict[str, Any]:
    shown: dict[str, Any] = {"state": v1.TaskState.Name(status.state), "timestamp": status.timestamp}
    if status.HasField("labels"):
        shown["labels"] = to_json(status.labels)["labels"]
    if status.HasField("container_status"):
        shown["container_status"] = _container_status(status.container_status)
    if status.HasField("healthy"):
        shown["healthy"] = status.healthy
    return shown


def _container_status(status: v1.ContainerStatus) -> dict[str, Any]:
    """Without the pid, which `json(ContainerStatus)` of Mesos leaves out."""
    shown = to_json(status)
    shown.pop("executor_pid", None)
    return shown
