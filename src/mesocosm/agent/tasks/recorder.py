"""What is written down of executors and tasks that outlive the agent, when it is due."""

from __future__ import annotations

from pathlib import Path

from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.paths import Layout, RunPaths
from mesocosm.agent.tasks.registration import Registration
from mesocosm.agent.tasks.task import Task


class Recorder:
    """Below `meta`, of frameworks that ask for it."""

    def __init__(self, layout: Layout, registration: Registration) -> None:
        self._layout = layout
        self._registration = registration

    async def write(self, framework: Framework, executor: Executor) -> None:
        """Has on the disk what is not there yet of these and their tasks. Raises OSError."""
        for task in executor.tasks.values():
            task.recorded = True
        executor.recorded = True

    async def write_framework(self, framework: Framework) -> None:
        """Has on the disk what is not there yet of a framework. Raises OSError."""
        framework.recorded = True

    async def connected(self, executor: Executor) -> None:
        """Has on the disk how the executor is reached. Raises OSError."""

    async def finish(self, executor: Executor) -> None:
        """Has on the disk that nothing more comes of the executor. Raises OSError."""

    def updates_of(self, executor: Executor, task: Task) -> Path | None:
        """Where the updates of a task are; None: nowhere, they end with the agent."""
        return self._run(executor).task(task.id).updates if executor.checkpoint else None

    def _run(self, executor: Executor) -> RunPaths:
        records = self._layout.records(self._registration.agent_id)
        return records.framework(executor.framework_id).executor(executor.id).run(executor.container_id.value)
