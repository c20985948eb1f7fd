"""What is left of executors and frameworks: their sandboxes, which are shown among the files, and some time removed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from mesocosm.agent import ownership
from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.agent.files import Authorize, Files
from mesocosm.agent.gc import GarbageCollector
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.paths import LATEST, FrameworkPaths, Layout
from mesocosm.agent.tasks.registration import Registration
from mesocosm.agent.tasks.task import Stage, Task
from mesocosm.agent.tasks.volumes import Shown, shown_volumes
from mesocosm.container import ContainerID


class Remains:
    """Below the sandboxes and the records of this agent."""

    def __init__(
        self, layout: Layout, registration: Registration, files: Files, gc: GarbageCollector, authorizer: Authorizer
    ) -> None:
        self._layout = layout
        self._registration = registration
        self._files = files
        self._gc = gc
        self._authorizer = authorizer
        self._shown: dict[Path, tuple[str, ...]] = {}
        self._volumes: dict[ContainerID, set[Shown]] = {}

    def sandbox(self, framework_id: str, executor_id: str, container_id: str) -> Path:
        """The sandbox of a run. Raises ValueError for ids that cannot be names of directories."""
        sandboxes = self._layout.sandboxes(self._registration.agent_id)
        return sandboxes.framework(framework_id).executor(executor_id).run(container_id).path

    def check_task(self, task_id: str) -> None:
        """Raises ValueError for the id of a task that cannot be the name of a directory."""
        self._layout.records("any").framework("any").executor("any").run("any").task(task_id)

    def show(self, framework: Framework, executor: Executor) -> None:
        """Shows the sandbox of an executor that starts, and keeps what an earlier run has left beside it."""
        for path in (*_names(executor), *_links(executor)):
            self._files.attach(path, executor.directory, self._who_may_see(framework, executor))
        self.show_volumes(framework, executor)
        for left in self._left_before(framework, executor):
            self._gc.unschedule(left)

    async def await_removals(self, framework: Framework, executor: Executor) -> None:
        """Returns when nothing is being removed any more of what an earlier run has left beside it."""
        for path in self._left_before(framework, executor):
            if await self._gc.await_removal(path):
                self.show(framework, executor)  # It was thought to be gone with that.

    def _left_before(self, framework: Framework, executor: Executor) -> Iterator[Path]:
        for paths in self._frameworks(framework):
            yield paths.path
            yield paths.executor(executor.id).path

    def show_volumes(self, framework: Framework, executor: Executor) -> None:
        """Shows what volumes the executor and its tasks have now, and no others."""
        wanted = set(shown_volumes(executor, self._layout.work_dir))
        known = self._volumes.pop(executor.container_id, set())
        for each in known - wanted:
            self._files.detach(each.virtual)
        for each in wanted:
            self._files.attach(each.virtual, each.real, self._who_may_see(framework, executor), inside=each.inside)
        if wanted:
            self._volumes[executor.container_id] = wanted

    def _who_may_see(self, framework: Framework, executor: Executor) -> Authorize:
        user = executor.user or framework.info.user
        return lambda principal: ownership.allows(self._authorizer, principal, Action.ACCESS_SANDBOXES, user)

    def leave_task(self, executor: Executor, task: Task, *, ages_already: bool = False) -> None:
        """Has the record of a task whose end the master knows removed when it is old, before that of its executor."""
        if executor.checkpoint:
            self._schedule(self._record(executor, task), ages_already=ages_already)

    async def claim_tasks(self, executor: Executor) -> None:
        """Keeps, for tasks that are to be put on record, the directories that earlier ones of their names have left."""
        for task in executor.at(Stage.QUEUED):
            if executor.checkpoint and not task.recorded:
                await self._gc.await_removal(self._record(executor, task))

    def leave_executor(self, framework: Framework, executor: Executor, *, ages_already: bool = False) -> None:
        """Has what is left of it removed when it is old: the run, and the executor's directory if it was the last.

        It `ages_already` if an earlier agent has left it.
        """
        self.show_volumes(framework, executor)
        volumes = [each.virtual for each in self._volumes.pop(executor.container_id, ())]
        for paths in self._frameworks(framework):
            run = paths.executor(executor.id).run(executor.container_id.value).path
            self._schedule(run, *_names(executor), *volumes, ages_already=ages_already)
            self._schedule(paths.executor(executor.id).path, *_links(executor), ages_already=ages_already)

    def leave_framework(self, framework: Framework, *, ages_already: bool = False) -> None:
        """Has the directories of a framework removed when they are old, since its last run has ended."""
        for paths in self._frameworks(framework):
            runs = self._runs(framework, paths) if ages_already else ()
            self._schedule(paths.path, ages_already=ages_already, after=runs)

    def leave(self, path: PurePath) -> None:
        """Has removed, when it is old, what nothing belongs to: `path` below the work directory and below `meta`."""
        for root in (self._layout.work_dir, self._layout.meta):
            if (root / path).exists():
                self._gc.schedule(root / path, (root / path).stat().st_mtime)

    def collected(self, path: Path) -> None:
        """Shows no more what was removed for its age."""
        if (virtual := self._shown.pop(path, None)) is not None:
            for each in virtual:
                self._files.detach(each)

    def _schedule(self, path: Path, *virtual: str, ages_already: bool = False, after: Iterable[Path] = ()) -> None:
        if path.exists():
            if not ages_already:
                os.utime(path)  # A later agent goes by that.
            self._shown[path] = virtual
            self._gc.schedule(path, max(map(_since, (path, *after))))

    def _runs(self, framework: Framework, paths: FrameworkPaths) -> Iterator[Path]:
        for executor in framework.completed_executors:
            yield paths.executor(executor.id).run(executor.container_id.value).path

    def _record(self, executor: Executor, task: Task) -> Path:
        records = self._layout.records(self._registration.agent_id).framework(executor.framework_id)
        return records.executor(executor.id).run(executor.container_id.value).task(task.id).path

    def _frameworks(self, framework: Framework) -> tuple[FrameworkPaths, FrameworkPaths]:
        """Its sandboxes, and its records."""
        agent_id = self._registration.agent_id
        return (
            self._layout.sandboxes(agent_id).framework(framework.id),
            self._layout.records(agent_id).framework(framework.id),
        )


def _since(path: Path) -> float:
    """When it was changed last; long ago if it is being removed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _names(executor: Executor) -> tuple[str, str]:
    """What its sandbox is called: the path, and the name that sandboxes of all containers have."""
    return str(executor.directory), f"/containers/{executor.container_id.value}"


def _links(executor: Executor) -> tuple[str, str]:
    """What else the sandbox is called: the last run of its executor."""
    latest = executor.directory.with_name(LATEST)
    return str(latest), f"/frameworks/{executor.framework_id}/executors/{executor.id}/runs/{LATEST}"
