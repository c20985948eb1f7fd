"""What an agent holds of its own: descriptors and asyncio tasks. A client must not be able to make them more."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.agent_process import AgentProcess
from tests.command_line import TIMEOUT

# Python imports this at its start. Of its tasks only the agent itself can tell.
_SITE = """
import asyncio
import os
import signal
import sys


def tell(*_):
    with open({fifo!r}, "w") as file:
        file.write("\\n".join(task.get_coro().__qualname__ for task in asyncio.all_tasks()))


if "agent" in sys.orig_argv:
    signal.signal(signal.SIGUSR2, tell)
"""

_PIDFD = "anon_inode:[pidfd]"
_SPARE = Counter({_PIDFD: 1, "socket:[]": 1})
"""An init that was cloned in advance. There may be one at any moment, or not."""
_PASSING = ("RequestHandler.", "LauncherProcess._make_spare")
"""Tasks of connections, and that which clones an init in advance, and has both ends of its channel meanwhile."""
_NUMBER = re.compile(r"(?<=:\[)\d+(?=]$)")


@dataclass(frozen=True, slots=True)
class Held:
    """Descriptors by what they are open on, and tasks by what they do, without numbers."""

    descriptors: Counter[str]
    tasks: Counter[str]

    def more_than(self, other: Held) -> list[str]:
        """What this has more of, but for an init in store, which either may have and the other not."""
        own, others = self.descriptors, other.descriptors
        if own[_PIDFD] > others[_PIDFD]:
            own = own - _SPARE
        elif own[_PIDFD] < others[_PIDFD]:
            others = others - _SPARE
        return [*(own - others).elements(), *(self.tasks - other.tasks).elements()]

    @property
    def passing(self) -> bool:
        """Whether it is about something that is over in a moment."""
        return any(name.startswith(_PASSING) for name in self.tasks)


class Holdings:
    """Looks at an agent that was started in the environment `env`."""

    def __init__(self, agent: AgentProcess, directory: Path) -> None:
        self._agent = agent
        self._fifo = directory / "tasks"
        os.mkfifo(self._fifo)
        site = directory / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITE.format(fifo=str(self._fifo)))
        self.env: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(site)}

    def now(self) -> Held:
        """What it holds at the moment."""
        descriptors: Counter[str] = Counter()
        for entry in Path(f"/proc/{self._agent.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # Closed meanwhile.
                descriptors[_NUMBER.sub("", str(entry.readlink()))] += 1
        return Held(descriptors, Counter(self._tasks()))

    def at_rest(self) -> Held:
        """What it holds when it has let go of every connection, and clones no init."""
        deadline = time.monotonic() + TIMEOUT
        earlier, held = self.now(), self.now()
        # The descriptors are looked at before the tasks: those of both looks are of a moment in between, if they agree.
        while earlier.passing or earlier.descriptors != held.descriptors:
            assert time.monotonic() < deadline, held
            earlier, held = held, self.now()
        return earlier

    def settled(self, before: Held) -> list[str]:
        """What it holds more than `before`, given the time to let go of it: the end of a connection takes a moment."""
        deadline = time.monotonic() + TIMEOUT
        while (more := self.now().more_than(before)) and time.monotonic() < deadline:
            pass  # It is asked again, which it answers when it has done what was to be done.
        return more

    def await_more(self, before: Held, number: int) -> None:
        """Returns when it holds `number` more."""
        deadline = time.monotonic() + TIMEOUT
        while len(more := self.now().more_than(before)) < number:
            assert time.monotonic() < deadline, f"{len(more)}, not {number} more: {Counter(more)}"

    def _tasks(self) -> list[str]:
        reading = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.kill(self._agent.pid, signal.SIGUSR2)
            poll = select.poll()
            poll.register(reading, select.POLLIN)
            assert poll.poll(TIMEOUT * 1000), "the agent does not answer a signal"
            text = b""
            os.set_blocking(reading, True)
            while data := os.read(reading, 65536):
                text += data
        finally:
            os.close(reading)
        return text.decode().splitlines()
