"""Where things are below the work directory, as in Mesos (`slave/paths.hpp`).

    slaves/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>          the sandbox of an executor
    meta/slaves/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>     what is on record of it
    meta/slaves/latest, …/runs/latest                                                    links to the last of them
    meta/resources                                                                       what outlives the agent's id
    meta/damaged                                                                         records that cannot be read

An id comes over the network and becomes a name of a directory: here it is refused where that cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesocosm.api.validation import validate_id

LATEST = "latest"


class Layout:
    """The work directory of an agent."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.meta = work_dir / "meta"
        self.latest = self.meta / "slaves" / LATEST
        self.damaged = self.meta / "damaged"
        self.resources = self.meta / "resources" / "resources_and_operations.state"

    def sandboxes(self, agent_id: str) -> AgentPaths:
        """Where its executors work. Raises ValueError for an id that cannot be the name of a directory."""
        return AgentPaths.below(self.work_dir, agent_id)

    def records(self, agent_id: str) -> AgentPaths:
        """Where is written what its recovery takes. Raises ValueError as `sandboxes`."""
        return AgentPaths.below(self.meta, agent_id)


@dataclass(frozen=True, slots=True)
class AgentPaths:
    """What belongs to an agent, as the master named it."""

    path: Path

    @classmethod
    def below(cls, root: Path, agent_id: str) -> AgentPaths:
        """Raises ValueError for an id that cannot be the name of a directory."""
        return cls(root / "slaves" / _unlike_the_link("agent", agent_id))

    @property
    def info(self) -> Path:
        """A SlaveInfo."""
        return self.path / "slave.info"

    @property
    def drain(self) -> Path:
        """A DrainConfig, while the agent is being drained and after that."""
        return self.path / "drain.config"

    @property
    def frameworks(self) -> Path:
        """The directory of all frameworks."""
        return self.path / "frameworks"

    def framework(self, framework_id: str) -> FrameworkPaths:
        """Raises ValueError for an id that cannot be the name of a directory."""
        return FrameworkPaths(self.frameworks / _safe("framework", framework_id))


@dataclass(frozen=True, slots=True)
class FrameworkPaths:
    """What belongs to a framework."""

    path: Path

    @property
    def info(self) -> Path:
        """A FrameworkInfo."""
        return self.path / "framework.info"

    @property
    def pid(self) -> Path:
        """The address of its driver, as text; `@0.0.0.0:0` for one that speaks HTTP."""
        return self.path / "framework.pid"

    @property
    def executors(self) -> Path:
        """The directory of all executors."""
        return self.path / "executors"

    def executor(self, executor_id: str) -> ExecutorPaths:
        """Raises ValueError for an id that cannot be the name of a directory."""
        return ExecutorPaths(self.executors / _safe("executor", executor_id))


@dataclass(frozen=True, slots=True)
class ExecutorPaths:
    """What belongs to an executor, whichever time it runs."""

    path: Path

    @property
    def info(self) -> Path:
        """An ExecutorInfo."""
        return self.path / "executor.info"

    @property
    def generated(self) -> Path:
        """`1` if the agent made the executor up, for a task that brings a command; `0` if not."""
        return self.path / "executor_generated_for_command_task"

    @property
    def runs(self) -> Path:
        """The directory of all runs."""
        return self.path / "runs"

    @property
    def latest(self) -> Path:
        """The link to the last run."""
        return self.runs / LATEST

    def run(self, container_id: str) -> RunPaths:
        """Raises ValueError for an id that cannot be the name of a directory."""
        return RunPaths(self.runs / _unlike_the_link("container", container_id))


@dataclass(frozen=True, slots=True)
class RunPaths:
    """What belongs to a container of an executor. Among the sandboxes, `path` is the sandbox."""

    path: Path

    @property
    def libprocess_pid(self) -> Path:
        """The address of an executor that registered by a message, as text."""
        return self.path / "pids" / "libprocess.pid"

    @property
    def http_marker(self) -> Path:
        """Empty; there if the executor has subscribed over HTTP."""
        return self.path / "http.marker"

    @property
    def sentinel(self) -> Path:
        """Empty; there if the executor has ended, and all that it had to say of its tasks is acknowledged."""
        return self.path / "executor.sentinel"

    @property
    def tasks(self) -> Path:
        """The directory of all tasks."""
        return self.path / "tasks"

    def task(self, task_id: str) -> TaskPaths:
        """Raises ValueError for an id that cannot be the name of a directory."""
        return TaskPaths(self.tasks / _safe("task", task_id))


@dataclass(frozen=True, slots=True)
class TaskPaths:
    """What belongs to a task."""

    path: Path

    @property
    def info(self) -> Path:
        """A Task, as it was when it was given to the executor."""
        return self.path / "task.info"

    @property
    def described_by(self) -> tuple[Path, ...]:
        """The files and directories without which nobody could tell what `updates` are about."""
        run = RunPaths(self.path.parents[1])
        executor = ExecutorPaths(run.path.parents[1])
        files = (self.info, executor.info, executor.generated)
        above = (executor.path.parents[0], executor.path.parents[1])
        return (*files, self.path, run.tasks, run.path, executor.runs, executor.path, *above)

    @property
    def updates(self) -> Path:
        """StatusUpdateRecords, one after the other: each update, and each acknowledgement."""
        return self.path / "task.updates"


def _safe(kind: str, name: str) -> str:
    # From the wire, protobuf gives bytes for text that is not UTF-8.
    reason = validate_id(name) if isinstance(name, str) else f"{name!r} is not UTF-8"
    if reason is not None:
        raise ValueError(f"this cannot be the id of a {kind}: {reason}")
    return name


def _unlike_the_link(kind: str, name: str) -> str:
    if name == LATEST:
        raise ValueError(f"this cannot be the id of a {kind}: {LATEST!r} is a link to the last one")
    return _safe(kind, name)
