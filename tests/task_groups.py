"""Groups of tasks, and the default executor that runs them, as a master asks an agent for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesocosm.api import internal, v1
from tests.task_agent import AGENT_ID, FRAMEWORK_ID, Master, framework_info, scalars

EXECUTOR = "default"


def task(name: str, script: str = "sleep 60", **fields: Any) -> v1.TaskInfo:
    info = {
        "name": name,
        "task_id": v1.TaskID(value=name),
        "agent_id": v1.AgentID(value=AGENT_ID),
        "resources": scalars(cpus=0.1, mem=32),
        "command": v1.CommandInfo(value=script),
    }
    return v1.TaskInfo(**{**info, **fields})


def run(master: Master, tasks: Sequence[v1.TaskInfo], *, framework: dict[str, Any] | None = None, **more: Any) -> None:
    """RunTaskGroupMessage, to the executor that may be there already."""
    launched = master.agent.tasks.frameworks.executor(FRAMEWORK_ID, EXECUTOR) is not None
    own = {
        "executor_id": v1.ExecutorID(value=EXECUTOR),
        "framework_id": v1.FrameworkID(value=FRAMEWORK_ID),
        "type": v1.ExecutorInfo.DEFAULT,
        "resources": scalars(cpus=0.1, mem=32),
    }
    executor = v1.ExecutorInfo(**{**own, **more})
    master.tell(
        internal.RunTaskGroupMessage(
            framework=framework_info(**(framework or {})),
            executor=executor,
            task_group=v1.TaskGroupInfo(tasks=tasks),
            launch_executor=not launched,
        )
    )
