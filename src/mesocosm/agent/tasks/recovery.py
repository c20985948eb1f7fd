"""What an earlier agent has left on record: frameworks, executors and tasks, read once at the start.

A crash leaves things half done, which is no damage: a directory that lacks what describes it never mattered to anybody
else. Damage is what cannot be read although it was written as a whole.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeVar

from google.protobuf.message import Message

from mesocosm.agent.tasks import disk
from mesocosm.agent.tasks.paths import AgentPaths, ExecutorPaths, FrameworkPaths, Layout, RunPaths, TaskPaths
from mesocosm.api import internal, v1
from mesocosm.dataclass import replace
from mesocosm.directories import set_aside
from mesocosm.errors import RecoveryError
from mesocosm.libprocess.address import NOBODY, ActorAddress

logger = logging.getLogger(__name__)

_UUID = 16

_Message = TypeVar("_Message", bound=Message)
_Paths = TypeVar("_Paths")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class RecoveredTask:
    """A task as it was given to its executor, and what is known of it since.

    `updates` are in the order they came in; `acknowledged` are UUIDs. `size` is the valid part of the file of both.
    """

    paths: TaskPaths
    info: v1.Task
    updates: tuple[internal.StatusUpdate, ...] = ()
    acknowledged: frozenset[bytes] = frozenset()
    size: int = 0


@dataclass(frozen=True, slots=True)
class RecoveredRun:
    """The last container of an executor.

    `address`: of an executor that registered by messages. `is_http`: whether it has subscribed. Neither: it had not
    come so far. `is_completed`: it has ended, and nothing waits for an acknowledgement.
    """

    paths: RunPaths
    container_id: str
    tasks: tuple[RecoveredTask, ...] = ()
    address: ActorAddress | None = None
    is_http: bool = False
    is_completed: bool = False


@dataclass(frozen=True, slots=True)
class RecoveredExecutor:
    """An executor; `generated`: the agent made it up for a command."""

    paths: ExecutorPaths
    info: v1.ExecutorInfo
    run: RecoveredRun
    generated: bool = False


@dataclass(frozen=True, slots=True)
class RecoveredFramework:
    """A framework, and where its driver was."""

    paths: FrameworkPaths
    info: v1.FrameworkInfo
    pid: ActorAddress = NOBODY
    executors: tuple[RecoveredExecutor, ...] = ()


@dataclass(frozen=True, slots=True)
class RecoveredAgent:
    """All that is on record.

    `info` is None if the agent was never registered; there are no frameworks then. `remains` are directories of which
    nothing of this tree speaks, of older agents and older runs, or half made: each is meant below the work directory
    and below `meta`, and may be in one of them only. `errors` counts what was damaged, and is set aside.
    """

    info: internal.SlaveInfo | None = None
    frameworks: tuple[RecoveredFramework, ...] = ()
    drain: v1.DrainConfig | None = None
    resources: internal.ResourceState = field(default_factory=internal.ResourceState)
    remains: tuple[PurePath, ...] = ()
    errors: int = 0


async def read(layout: Layout, *, strict: bool) -> RecoveredAgent:
    """What is on record. Raises OSError, and RecoveryError for a damaged file if `strict`; else that is set aside.

    After a crash of the machine be not strict: it may have damaged what no update was sent about.
    """
    return await asyncio.to_thread(_Reader(layout, strict=strict).agent)


class _Reader:
    def __init__(self, layout: Layout, *, strict: bool) -> None:
        self._layout = layout
        self._strict = strict
        self._remains: list[PurePath] = []
        self._errors = 0

    def agent(self) -> RecoveredAgent:
        resources = self._message(self._layout.resources, internal.ResourceState) or internal.ResourceState()
        latest = _target(self._layout.latest)

        def registered(paths: AgentPaths) -> RecoveredAgent | None:
            return self._registered(paths) if paths.path.name == latest else None

        found = self._each(self._layout.latest.parent, self._layout.records, registered)
        agent = found[0] if found else RecoveredAgent()
        return replace(agent, resources=resources, remains=tuple(self._remains), errors=self._errors)

    def _registered(self, paths: AgentPaths) -> RecoveredAgent | None:
        info = self._message(paths.info, internal.SlaveInfo, lambda info: info.id.value)
        if info is None:
            return None
        frameworks = self._each(paths.frameworks, paths.framework, self._framework)
        return RecoveredAgent(info, frameworks, self._message(paths.drain, v1.DrainConfig))

    def _framework(self, paths: FrameworkPaths) -> RecoveredFramework | None:
        info = self._message(paths.info, v1.FrameworkInfo, lambda info: info.id.value)
        if info is None:
            return None
        executors = self._each(paths.executors, paths.executor, self._executor)
        return RecoveredFramework(paths, info, self._address(paths.pid) or NOBODY, executors)

    def _executor(self, paths: ExecutorPaths) -> RecoveredExecutor | None:
        info = self._message(paths.info, v1.ExecutorInfo, lambda info: info.executor_id.value)
        latest = _target(paths.latest)

        def last(run: RunPaths) -> RecoveredRun | None:
            return self._run(run) if run.path.name == latest else None

        if info is None or not (runs := self._each(paths.runs, paths.run, last)):
            return None
        return RecoveredExecutor(paths, info, runs[0], generated=self._flag(paths.generated))

    def _run(self, paths: RunPaths) -> RecoveredRun:
        return RecoveredRun(
            paths,
            paths.path.name,
            # Below a sandbox, a directory of that name is the executor's own.
            self._each(paths.tasks, paths.task, self._task, has_sandboxes=False),
            self._address(paths.libprocess_pid),
            is_http=paths.http_marker.exists(),
            is_completed=paths.sentinel.exists(),
        )

    def _task(self, paths: TaskPaths) -> RecoveredTask | None:
        info = self._message(paths.info, v1.Task, lambda info: info.task_id.value)
        return None if info is None else self._with_updates(RecoveredTask(paths, info))

    def _with_updates(self, task: RecoveredTask) -> RecoveredTask:
        """The task with what is in its file of updates, which is then cut off where it ceases to be valid."""
        path, size = task.paths.updates, 0
        data = self._content(path)
        updates, acknowledged = [], set()
        try:
            for record, end in disk.parse(data, internal.StatusUpdateRecord):
                acknowledges = record.type == internal.StatusUpdateRecord.ACK
                uuid = record.uuid if acknowledges else record.update.uuid
                if len(uuid) != _UUID:
                    raise ValueError(f"the record that ends at byte {end} has no UUID")
                if acknowledges:
                    acknowledged.add(uuid)
                else:
                    updates.append(record.update)
                size = end
        except ValueError as error:
            self._damaged(path, str(error))
            disk.replace({path: data[:size]}, synced=True)
        if size < len(data) and path.exists():
            os.truncate(path, size)
        return replace(task, updates=tuple(updates), acknowledged=frozenset(acknowledged), size=size)

    # What all of these are made of.

    def _each(
        self,
        directory: Path,
        paths_of: Callable[[str], _Paths],
        read: Callable[[_Paths], _Found | None],
        *,
        has_sandboxes: bool = True,
    ) -> tuple[_Found, ...]:
        """What can be read of the directories in `directory`; the others remain, also those among the sandboxes."""
        below = directory.relative_to(self._layout.meta)
        names = set(_directories(directory))
        if has_sandboxes:
            names.update(_directories(self._layout.work_dir / below))
        found = []
        for name in sorted(names):
            already = len(self._remains)
            try:
                one = read(paths_of(name))
            except ValueError:  # No id has this name.
                one = None
            if one is not None:
                found.append(one)
            elif has_sandboxes:
                self._remains[already:] = [below / name]
        return tuple(found)

    def _message(
        self, path: Path, kind: type[_Message], name_of: Callable[[_Message], str] | None = None
    ) -> _Message | None:
        """The message in a file; None if there is none, or it is damaged: also if it is not that of its directory."""
        data = self._content(path)
        if not data:
            return None
        try:
            message, end = next(disk.parse(data, kind), (None, 0))
            if message is None or end != len(data):
                raise ValueError(f"it has {len(data)} bytes, which are no {kind.DESCRIPTOR.name} with its length")
            if name_of is not None and name_of(message) != path.parent.name:
                raise ValueError(f"it is that of {name_of(message)!r}")
        except ValueError as error:
            self._damaged(path, str(error))
            return None
        return message

    def _address(self, path: Path) -> ActorAddress | None:
        data = self._content(path)
        try:
            return ActorAddress.parse(data.decode()) if data else None
        except ValueError as error:
            self._damaged(path, str(error))
            return None

    def _flag(self, path: Path) -> bool:
        data = self._content(path)
        if data not in (b"", b"0", b"1"):
            self._damaged(path, "it is neither 0 nor 1")
        return data == b"1"

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""
        except IsADirectoryError:
            self._damaged(path, "it is a directory")
            return b""

    def _damaged(self, path: Path, reason: str) -> None:
        """Raises RecoveryError if that is wanted, or sets aside what is at `path`."""
        if self._strict:
            hint = "restore it, or have it set aside by --no-strict"
            raise RecoveryError(f"{path} is damaged: {reason}", hint)
        logger.error("%s is damaged, and now in %s: %s", path, set_aside(path, self._layout.damaged), reason)
        self._errors += 1


def _target(link: Path) -> str | None:
    """The name of the directory that a link leads to; None if it leads nowhere, as when what it meant was removed."""
    return link.resolve().name if link.is_dir() else None


def _directories(directory: Path) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
