"""What is on record of frameworks, executors and tasks, so that an agent which is started again knows them.

The files, and what is in them, are those of Mesos (`slave/state.hpp`). Each is replaced as a whole. What a master keeps
in mind is on the disk when its function returns. What is about executors, and ends with the machine, is not: a task is
started sooner so, and the first update of it brings to the disk what says of what it is (`StatusUpdates`).

Only `forked.pid` is missing: the containerizer has records of its own of which process a container is, with what tells
that one from a later one.

Everything raises OSError, which names the file, and waits where the disk is full. Nothing blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from mesocosm.agent.tasks import disk
from mesocosm.agent.tasks.paths import ExecutorPaths, FrameworkPaths, Layout, RunPaths
from mesocosm.api import internal, v1
from mesocosm.directories import make_directories
from mesocosm.libprocess.address import NOBODY, ActorAddress


async def write_agent(layout: Layout, info: internal.SlaveInfo) -> None:
    """As what the agent is registered: from now on the next one goes by this id. Raises ValueError for a wrong one."""
    records = layout.records(info.id.value)

    def write() -> None:
        disk.replace({records.info: disk.framed(info)}, synced=True)
        disk.link(layout.latest, records.path.name, synced=True)

    await disk.write(write)


async def write_framework(framework: FrameworkPaths, info: v1.FrameworkInfo, pid: ActorAddress = NOBODY) -> None:
    """A framework that wants its tasks to outlive the agent (`checkpoint`), and where its driver is."""
    contents = {framework.info: disk.framed(info), framework.pid: str(pid).encode()}
    await disk.write(partial(disk.replace, contents, synced=True))


async def write_executor(
    executor: ExecutorPaths, info: v1.ExecutorInfo, container_id: str, tasks: Iterable[v1.Task], *, generated: bool
) -> None:
    """A new run of an executor, and the first tasks for it. `generated`: the agent made it up for a command.

    Only the run that was written last is recovered.
    """
    run = executor.run(container_id)
    contents = {executor.info: disk.framed(info), executor.generated: b"1" if generated else b"0"}
    contents |= {run.task(task.task_id.value).info: disk.framed(task) for task in tasks}

    def write() -> None:
        disk.replace(contents, synced=False)
        make_directories(run.path)
        disk.link(executor.latest, container_id, synced=False)

    await disk.write(write)


async def write_tasks(run: RunPaths, tasks: Iterable[v1.Task]) -> None:
    """More tasks for an executor, before it is told of them. What became of an earlier one of that name is removed."""
    contents = {run.task(task.task_id.value): disk.framed(task) for task in tasks}

    def write() -> None:
        for task in contents:
            disk.remove(task.updates)
        disk.replace({task.info: data for task, data in contents.items()}, synced=False)

    await disk.write(write)


async def write_link(run: RunPaths, address: ActorAddress | None) -> None:
    """How the executor has registered: with messages from `address`, or, if there is none, over HTTP."""
    contents = {run.http_marker: b""} if address is None else {run.libprocess_pid: str(address).encode()}
    await disk.write(partial(disk.replace, contents, synced=False))


async def write_end(run: RunPaths) -> None:
    """That the executor has ended, and all that it had to say is acknowledged."""
    await disk.write(partial(disk.replace, {run.sentinel: b""}, synced=False))


async def write_resources(layout: Layout, state: internal.ResourceState) -> None:
    """What a master has made of the agent's resources. It belongs to the machine, whichever id the agent gets next."""
    await disk.write(partial(disk.replace, {layout.resources: disk.framed(state)}, synced=True))


async def write_drain(layout: Layout, agent_id: str, config: v1.DrainConfig | None) -> None:
    """That the agent is being drained, or, with None, that it takes tasks again."""
    path = layout.records(agent_id).drain
    if config is None:
        await disk.write(partial(disk.remove, path))
    else:
        await disk.write(partial(disk.replace, {path: disk.framed(config)}, synced=True))
