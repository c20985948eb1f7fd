"""Where among the files the volumes of tasks are looked for: in their sandbox, where only their container has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.api import convert, v1
from mesocosm.container import PersistentVolume, persistent_volume_path
from mesocosm.errors import ContainerError

_PARENT = v1.Volume.Source.SandboxPath.PARENT


@dataclass(frozen=True, slots=True)
class Shown:
    """The directory `real`, or what is `inside` of it and a container may have changed, at the path `virtual`."""

    virtual: str
    real: Path
    inside: str = ""


def shown_volumes(executor: Executor, work_dir: Path) -> Iterator[Shown]:
    """What there is to be seen now. Volumes of a group's tasks are below `tasks/TASK`, too, as in Mesos.

    A persistent one is there while its task runs, and may be another one's then. What is in the sandbox stays.
    """
    of_executor = _persistent(executor.info.resources)
    if executor.state is not ExecutorState.TERMINATED:
        for volume in of_executor:
            yield _shown(executor.directory, volume, work_dir)
    for task in (*executor.tasks.values(), *executor.completed):
        runs = task.stage in (Stage.QUEUED, Stage.LAUNCHED)
        for volume in _persistent(task.message.resources) if runs else ():
            yield _shown(executor.directory, volume, work_dir)
            if executor.is_default:
                yield _shown(executor.directory / "tasks" / task.id, volume, work_dir)
        if executor.is_default:
            yield from _of_parent(executor, task, of_executor, work_dir)


def _of_parent(
    executor: Executor, task: Task, of_executor: Sequence[PersistentVolume], work_dir: Path
) -> Iterator[Shown]:
    """What a task has of its executor's sandbox, or of a volume that this has there."""
    for each in task.message.container.volumes:
        path = each.source.sandbox_path.path
        if each.source.sandbox_path.type != _PARENT or ".." in PurePosixPath(path).parts:
            continue
        virtual = f"{executor.directory}/tasks/{task.id}/{each.container_path.lstrip('/')}"
        around = next((one for one in of_executor if PurePosixPath(path).is_relative_to(one.container_path)), None)
        if around is None:
            yield Shown(virtual, executor.directory, path)
        elif executor.state is not ExecutorState.TERMINATED:
            inside = str(PurePosixPath(path).relative_to(around.container_path))
            yield Shown(virtual, persistent_volume_path(work_dir, around), "" if inside == "." else inside)


def _shown(directory: Path, volume: PersistentVolume, work_dir: Path) -> Shown:
    return Shown(f"{directory}/{volume.container_path}", persistent_volume_path(work_dir, volume))


def _persistent(resources: Iterable[v1.Resource]) -> Sequence[PersistentVolume]:
    """Those that a container can have; of others its launch tells what is wrong."""
    try:
        return convert.persistent_volumes(resources)
    except ContainerError:
        return []
