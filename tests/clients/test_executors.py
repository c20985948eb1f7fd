"""Custom executors that others could have written: by pymesos, a client of Mesos as it is, and in JavaScript."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.task_agent import AGENT_ID, FRAMEWORK_ID, executor_info, running_agent, scalars, task_info

pytestmark = pytest.mark.kernel

HERE = Path(__file__).parent
PYMESOS = f"PYTHONPATH={HERE / 'stand_in'} exec {sys.executable} {HERE / 'pymesos_executor.py'}"
NODE = f"exec node {HERE / 'executor.mjs'}"
SCRIPTS = [
    pytest.param(
        PYMESOS,
        id="pymesos",
        marks=pytest.mark.skipif(importlib.util.find_spec("pymesos") is None, reason="needs pymesos"),
    ),
    pytest.param(
        NODE, id="node", marks=pytest.mark.skipif(shutil.which("node") is None, reason="needs Debian's nodejs")
    ),
]


@pytest.mark.parametrize("script", SCRIPTS)
async def test_tasks_run_and_are_killed(flags: Flags, script: str) -> None:
    executor = executor_info(script=script, resources=scalars(cpus=1, mem=256))
    async with running_agent(flags) as master:
        master.run(task_info("quick", executor))
        status = await master.update("quick", v1.TASK_FINISHED)
        assert status.source == v1.TaskStatus.SOURCE_EXECUTOR
        master.run(task_info("long", executor))
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
