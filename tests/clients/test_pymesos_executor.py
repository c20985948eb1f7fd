"""pymesos, a client that others wrote for Mesos, as a custom executor."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.task_agent import AGENT_ID, FRAMEWORK_ID, executor_info, running_agent, task_info

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(importlib.util.find_spec("pymesos") is None, reason="needs pymesos"),
]

HERE = Path(__file__).parent
EXECUTOR = executor_info(
    script=f"PYTHONPATH={HERE / 'stand_in'} exec {sys.executable} {HERE / 'pymesos_executor.py'}",
)


async def test_tasks_run_and_are_killed(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("quick", EXECUTOR))
        status = await master.update("quick", v1.TASK_FINISHED)
        assert status.source == v1.TaskStatus.SOURCE_EXECUTOR
        master.run(task_info("long", EXECUTOR))
        await master.update("long", v1.TASK_RUNNING)
        ids = {
            "slave_id": v1.AgentID(value=AGENT_ID),
            "framework_id": v1.FrameworkID(value=FRAMEWORK_ID),
            "executor_id": v1.ExecutorID(value="shell"),
        }
        master.tell(internal.FrameworkToExecutorMessage(**ids, data=b"hello"))
        assert (await master.heard(internal.ExecutorToFrameworkMessage)).data == b"heard"
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        master.tell(internal.ShutdownFrameworkMessage(framework_id=ids["framework_id"]))
        await master.gone()
