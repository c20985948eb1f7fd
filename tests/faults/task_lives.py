"""Lives of tasks, and the sudden deaths of all who have a part in them: agent, launcher, executors, tasks, master.

    python -m tests.faults.task_lives --lives 1000 --seed 7

Whatever dies, and when: every task comes to exactly one terminal state, the framework's acknowledgement of which is on
record, and nothing is left of anything. The master here stands for its framework, too: it kills again what does not
end, and asks an agent that registers again for the tasks of which that says nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from mesocosm.task_states import TERMINAL
from tests.agent_process import AgentProcess, agent_process
from tests.command_line import children
from tests.machine import VARIABLE, Machine, Scope, difference, settle
from tests.master_standin import MasterStandIn, Received
from tests.task_agent import scalars
from tests.unit.stout import fields_of, messages

COMMANDS = {"ends": "exit 0", "fails": "exit 3", "lives": "sleep 0.$((RANDOM % 10))", "sleeps": "exec sleep 1000"}
"""What tasks do; those that sleep are killed."""
AT_ONCE = 12
PATIENCE = 90.0
"""Seconds without any news after which a life counts as lost."""
_KILL_AGAIN = 2.0
_LASTING = ("agent", "master", "failover")
"""Deaths after which agent and master have to find each other again."""
_AT_ANY_TIME = 0.03
_LAUNCHER = 0.2
"""How much less often than others the launcher dies: what it launches fails then, and does not live."""


@dataclass(slots=True)
class Life:
    """A task: when the master kills it, if it does, and the states it came to, by the UUIDs of their updates."""

    kind: str
    kill_at: float | None = None
    states: dict[bytes, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def ends(self) -> list[str]:
        return [state for state in self.states.values() if state in TERMINAL]

    def is_answered(self, status: v1.TaskStatus) -> bool:
        """Whether the agent has said before that it does not know the task, as it does for each kill and question."""
        dropped = v1.TaskState.Name(v1.TASK_DROPPED)
        return (
            status.source == v1.TaskStatus.SOURCE_AGENT and status.state == v1.TASK_DROPPED and self.ends == [dropped]
        )


class Framework(MasterStandIn):
    """A master with a framework that outlives agents, and keeps count of its tasks."""

    def __init__(self) -> None:
        super().__init__(ping_timeout=4.0)
        self.framework.checkpoint = True
        self.lives: dict[str, Life] = {}
        self.changed = threading.Condition()
        self.registered_at = math.inf

    def take(self, entry: Received) -> None:
        if isinstance(entry.message, internal.StatusUpdateMessage):
            update = entry.message.update
            life = self.lives[update.status.task_id.value]
            if update.uuid not in life.states and not life.is_answered(update.status):
                life.states[update.uuid] = v1.TaskState.Name(update.status.state)
                life.reasons.append(f"{life.states[update.uuid]}: {update.status.message}")
        super().take(entry)
        with self.changed:
            self.changed.notify_all()

    def _register(self, sender: str, message: Any) -> None:
        with self._sending:  # What is sent afterwards comes afterwards, and is not asked for.
            super()._register(sender, message)
        self.registered_at = time.monotonic()

    def at_once(self) -> AbstractContextManager[object]:
        """While it lasts, nothing else is sent."""
        return self._sending

    def acknowledge(self, update: internal.StatusUpdate) -> None:
        """As a master, it drops what an agent says that has not registered."""
        if self.agents:
            super().acknowledge(update)

    def reconciliations(self, message: Any) -> list[internal.ReconcileTasksMessage]:
        """The tasks that were given to the agent, and of which it says nothing."""
        known = {task.task_id.value for task in message.tasks}
        unknown = [name for name, life in list(self.lives.items()) if not life.ends and name not in known]
        return [
            internal.ReconcileTasksMessage(
                framework_id=self.framework.id,
                framework=self.framework,
                statuses=[v1.TaskStatus(task_id=v1.TaskID(value=name), state=v1.TASK_STAGING) for name in unknown],
            )
        ]


class TaskLives:
    """An agent and a framework, from the first life to the last."""

    def __init__(
        self, agent: AgentProcess, master: Framework, seed: int, deaths: Collection[str] | None = None
    ) -> None:
        """`deaths` are whose may come; all if it is None."""
        self.agent = agent
        self.master = master
        self.deaths: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._together = 0.0
        agent.keeps_port = True
        self._kinds: dict[str, Callable[[], bool]] = {
            "agent": self._kill_agent,
            "launcher": self._kill_launcher,
            "container": lambda: self.kill_in_container(0),
            "executor": lambda: self.kill_in_container(1),
            "task": lambda: self.kill_in_container(2),
            "master": self._restart_master,
            "failover": self._fail_over,
        }
        if deaths is not None:
            self._kinds = {kind: self._kinds[kind] for kind in deaths}

    def live(self, lives: int) -> None:
        """Raises AssertionError for a task that does not end as it should."""
        self.start_agent()
        self.master.await_agent()
        news = time.monotonic()
        while (ended := self._ended()) < lives:
            while self.master.agents and (more := min(lives, ended + AT_ONCE) - len(self.master.lives)) > 0:
                self._begin_some(more)
            self._kill_tasks()
            with self.master.changed:
                self.master.changed.wait(self._random.uniform(0, 0.3))
            self._let_die()
            if self._ended() > ended:
                news = time.monotonic()
            assert time.monotonic() - news < PATIENCE, f"{self._unended()}\n{self.agent.log.read_text()}"
        self._check()

    # Lives.

    def begin(self, kind: str) -> str:
        """Has the agent run a task of that kind by an executor of its own; returns its name."""
        with self.master.at_once():
            task = self._conceive(kind)
            self._try(lambda: self.master.run_task(task))
        return task.name

    def begin_together(self, kinds: Iterable[str]) -> None:
        """Has the agent run a group of tasks, as containers nested in that of their executor."""
        with self.master.at_once():
            tasks = [self._conceive(kind) for kind in kinds]
            executor = v1.ExecutorInfo(
                type=v1.ExecutorInfo.DEFAULT,
                executor_id=v1.ExecutorID(value=f"executor of {tasks[0].name}"),
                resources=scalars(cpus=0.01, mem=32),
            )
            self._try(lambda: self.master.run_group(executor, tasks))

    def _begin_some(self, most: int) -> None:
        kinds = [self._random.choice(list(COMMANDS)) for _ in range(min(most, self._random.randint(1, 3)))]
        if len(kinds) > 1:
            self.begin_together(kinds)
        else:
            self.begin(kinds[0])

    def _conceive(self, kind: str) -> v1.TaskInfo:
        name = f"task-{len(self.master.lives)}"
        kill_at = time.monotonic() + self._random.uniform(0, 2) if kind == "sleeps" else None
        self.master.lives[name] = Life(kind, kill_at)
        return v1.TaskInfo(
            name=name,
            task_id=v1.TaskID(value=name),
            agent_id=v1.AgentID(value=""),
            command=v1.CommandInfo(value=COMMANDS[kind]),
            resources=scalars(cpus=0.01, mem=32),
        )

    def _kill_tasks(self) -> None:
        now = time.monotonic()
        for name, life in self.master.lives.items():
            if life.kill_at is not None and life.kill_at <= now and not life.ends:
                life.kill_at = now + _KILL_AGAIN
                self._try(lambda name=name: self.master.kill_task(name, grace=0.1))  # type: ignore[misc]

    def _try(self, send: Callable[[], None]) -> None:
        """Sends something, which is lost if the agent is not there."""
        try:
            if self.master.agents:
                send()
        except OSError:
            self.deaths["message"] += 1

    def _ended(self) -> int:
        return sum(bool(life.ends) for life in self.master.lives.values())

    def _unended(self) -> dict[str, Life]:
        return {name: life for name, life in self.master.lives.items() if not life.ends}

    # Deaths.

    def _let_die(self) -> None:
        """Has something die. Agent and master have some time together before one of them does, but not always."""
        kind = self._random.choice(list(self._kinds))
        if kind == "launcher" and self._random.random() > _LAUNCHER:
            return
        if kind in _LASTING:
            if time.monotonic() < self.master.registered_at + self._together and self._random.random() > _AT_ANY_TIME:
                return
            self.master.registered_at = math.inf
            self._together = self._random.expovariate(1)
        if self._kinds[kind]():
            self.deaths[kind] += 1

    def start_agent(self, *arguments: str) -> None:
        """Starts it, and returns when it has recovered."""
        self.agent.start(f"--master={self.master.address}", "--ip=127.0.0.1", "--no-hostname_lookup", *arguments)

    def _kill_agent(self) -> bool:
        self.agent.stop(signal.SIGKILL)
        self.start_agent()
        return True

    def _kill_launcher(self) -> bool:
        return self._kill(children(self.agent.pid), own=True)

    def kill_in_container(self, depth: int) -> bool:
        """Kills an init, a child of one, or a child of that."""
        pids = []
        for directory, _, files in os.walk(self.agent.flags.runtime_dir / "containers"):  # Which ends where one ends.
            if "pid" in files:
                with suppress(FileNotFoundError):
                    pids.append(int(json.loads(Path(directory, "pid").read_bytes())["pid"]))
        for _ in range(depth):
            pids = [child for pid in pids for child in _children(pid)]
        return self._kill(pids)

    def _kill(self, pids: list[int], *, own: bool = False) -> bool:
        """Kills one of the processes; whether it was there, and of this agent, whose `own` children surely are."""
        if not pids:
            return False
        pid = self._random.choice(pids)
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if not own and self.agent.flags.cgroups_root not in Path(f"/proc/{pid}/cgroup").read_text():
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return False
        finally:
            os.close(pidfd)
        return True

    def _restart_master(self) -> bool:
        self.master.stop()
        time.sleep(self._random.uniform(0, 0.2))
        self.master.start()
        return True

    def _fail_over(self) -> bool:
        self.master.stop()
        self.master.forget()
        self.master.start()
        return True

    # The end.

    def _check(self) -> None:
        """One end for each, acknowledged, and nothing left of it."""
        self._await_silence()
        wrong = {name: life for name, life in self.master.lives.items() if len(life.ends) != 1}
        assert not wrong, wrong
        for record in (self.agent.flags.work_dir / "meta").rglob("task.updates"):
            ends, acknowledged = _ends_of(record.read_bytes())
            assert len(ends) <= 1, record
            assert set(ends) <= acknowledged, record

    def _await_silence(self) -> None:
        """Returns when the agent knows of no framework, container or process any more."""
        deadline = time.monotonic() + PATIENCE
        while frameworks := self.agent.get("/state").json["frameworks"]:
            assert time.monotonic() < deadline, frameworks
            time.sleep(0.1)
        while containers := self.agent.containers():
            assert time.monotonic() < deadline, containers
            time.sleep(0.1)


def _children(pid: int) -> list[int]:
    try:
        return children(pid)
    except OSError:
        return []


def _ends_of(data: bytes) -> tuple[list[object], set[object]]:
    """The UUIDs of the terminal updates in a file, and those that are acknowledged."""
    ends, acknowledged = [], set()
    for record in messages(data):
        if record[1] == internal.StatusUpdateRecord.ACK:
            acknowledged.add(record[3])
            continue
        update = fields_of(record[2])
        state = fields_of(update[4])[2]
        assert isinstance(state, int)
        if v1.TaskState.Name(v1.TaskState.ValueType(state)) in TERMINAL:
            ends.append(update[6])
    return ends, acknowledged


def main() -> None:
    """Runs lives in directories of their own, and compares the machine before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--deaths", default="", help="whose, separated by commas; all if it is empty")
    parser.add_argument("--seed", type=int, default=secrets.randbits(16))
    options = parser.parse_args()
    name = f"test-{secrets.token_hex(5)}"
    os.environ[VARIABLE] = name
    directory = Path(tempfile.gettempdir(), name)
    directory.mkdir(mode=0o755)
    flags = Flags(work_dir=directory / "work", runtime_dir=directory / "run", cgroups_root=name)
    scope = Scope(name, flags.runtime_dir)
    say(f"{options.lives} lives, seed {options.seed}, in {directory}")
    before, began = Machine.snapshot(scope), time.monotonic()
    with agent_process(flags, directory) as agent, Framework() as master:
        lives = TaskLives(agent, master, options.seed, options.deaths.split(",") if options.deaths else None)
        lives.live(options.lives)
    ends = Counter(life.ends[0] for life in master.lives.values())
    say(f"{time.monotonic() - began:.0f} s; deaths: {dict(lives.deaths)}; ends: {dict(ends)}")
    shutil.rmtree(directory)
    left = difference(before, settle(before, lambda: Machine.snapshot(scope)))
    for text, count in Counter(reason for life in master.lives.values() for reason in life.reasons).most_common(20):
        say(f"{count:6} {text}")
    say("\n".join(["left:", *left]) if left else "nothing is left")
    sys.exit(bool(left))


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
