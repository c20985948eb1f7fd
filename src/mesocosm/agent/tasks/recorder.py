"""What is written down of executors and tasks that outlive the agent, when it is due."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesocosm.agent.tasks import records
from mesocosm.agent.tasks.background import Background
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.links import ActorLink
from mesocosm.agent.tasks.paths import ExecutorPaths, Layout, RunPaths
from mesocosm.agent.tasks.registration import Registration
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.api import internal
from mesocosm.libprocess.address import NOBODY, ActorAddress


class Recorder:
    """Below `meta`, of frameworks that ask for it. Everything raises OSError."""

    def __init__(self, layout: Layout, registration: Registration, background: Background) -> None:
        self._layout = layout
        self._registration = registration
        self._background = background
        self._agent: asyncio.Task[None] | None = None

    def take_agent(self, slave: internal.SlaveInfo) -> None:
        """Has on the disk, before anything else, as what the agent is registered."""
        self._agent = self._background.spawn(records.write_agent(self._layout, slave))

    async def write(self, framework: Framework, executor: Executor) -> None:
        """Has on the disk what is not there yet of these and their tasks."""
        tasks = [task for task in executor.at(Stage.QUEUED) if not task.recorded]
        if executor.checkpoint:
            await self._write(framework, executor, tasks)
        executor.recorded = True
        for task in tasks:
            task.recorded = True

    async def _write(self, framework: Framework, executor: Executor, tasks: list[Task]) -> None:
        await self.write_framework(framework)
        messages = [task.message for task in tasks]
        if not executor.recorded:
            paths, container_id = self._executor(executor), executor.container_id.value
            await records.write_executor(paths, executor.info, container_id, messages, generated=executor.generated)
        elif messages:
            await records.write_tasks(self._run(executor), messages)

    async def write_framework(self, framework: Framework) -> None:
        """Has on the disk what is not there yet of a framework."""
        if framework.recorded or not framework.info.checkpoint:
            return
        if self._agent is not None:
            await asyncio.shield(self._agent)
        paths = self._layout.records(self._registration.agent_id).framework(framework.id)
        pid = ActorAddress.parse(framework.pid) if framework.pid else NOBODY
        await records.write_framework(paths, framework.info, pid)
        framework.recorded = True

    async def connected(self, executor: Executor) -> None:
        """Has on the disk how the executor is reached."""
        if executor.checkpoint:
            address = executor.link.address if isinstance(executor.link, ActorLink) else None
            await records.write_link(self._run(executor), address)

    async def finish(self, executor: Executor) -> None:
        """Has on the disk that nothing more comes of the executor."""
        if executor.checkpoint and executor.recorded:
            await records.write_end(self._run(executor))

    def updates_of(self, executor: Executor, task: Task) -> Path | None:
        """Where the updates of a task are; None: nowhere, they end with the agent, as nothing else is of the task."""
        return self._run(executor).task(task.id).updates if executor.checkpoint and task.recorded else None

    def _run(self, executor: Executor) -> RunPaths:
        return self._executor(executor).run(executor.container_id.value)

    def _executor(self, executor: Executor) -> ExecutorPaths:
        return self._layout.records(self._registration.agent_id).framework(executor.framework_id).executor(executor.id)
