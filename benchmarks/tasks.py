"""What a task that brings a command costs: the time until its command runs, and the memory of its executor meanwhile.

The time is from the arrival of RunTaskMessage at an agent in this process. The exit status is 1 where a target is
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
from pathlib import Path

from memory import Memory
from mesocosm.api import v1
from mesocosm.flags import Flags
from mesocosm.linux.poll import readable
from report import median, show
from tests.task_agent import ISOLATION, Master, running_agent, task_info
from workplace import workplace

GREATEST_DELAY = 0.030
GREATEST_PRIVATE = 8_000_000
_BEGINNING = 2.0
"""Seconds that an agent has before its first task: it registers at a master meanwhile."""
_BETWEEN = 0.2


async def measure(flags: Flags, isolation: str, count: int) -> tuple[list[float], list[Memory]]:
    """For each task the seconds until its command runs, and the memory of its executor."""
    async with running_agent(flags, isolation=isolation) as master:
        await asyncio.sleep(_BEGINNING)
        delays, memories = [], []
        for number in range(count):
            delay, memory = await _run(master, f"task-{number}", flags.work_dir.parent / f"pipe-{number}")
            delays.append(delay)
            memories.append(memory)
            await asyncio.sleep(_BETWEEN)
        return delays, memories


async def _run(master: Master, name: str, pipe: Path) -> tuple[float, Memory]:
    """A task whose command opens a pipe first, and ends as it closes."""
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        command = v1.CommandInfo(value=f"exec 3<> {shlex.quote(str(pipe))}; echo >&3; read -r end; sleep 1000")
        task = task_info(name, command=command)
        task.ClearField("executor")
        began = time.perf_counter()
        master.run(task)
        await readable(descriptor)
        delay = time.perf_counter() - began
    finally:
        os.close(descriptor)
    status = await master.update(name, v1.TASK_RUNNING)
    memory = Memory.of([_executor_of(status.container_status.executor_pid)])
    master.kill(name)
    await master.update(name, v1.TASK_KILLED)
    return delay, memory


def _executor_of(init: int) -> int:
    (executor,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return int(executor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--isolation", default=ISOLATION)
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place:
        root = f"mesocosm-benchmark-{os.getpid()}"
        flags = Flags(work_dir=place.work, runtime_dir=place.state / "mesocosm", cgroups_root=root)
        delays, memories = asyncio.run(measure(flags, arguments.isolation, arguments.count))
    delay, private = median(delays), median([memory.private for memory in memories])
    rows = [
        ["arrival to the command, median", f"{delay * 1e3:.1f} ms", f"≤ {GREATEST_DELAY * 1e3:g} ms"],
        ["private memory of its executor, median", f"{private / 1e6:.2f} MB", f"≤ {GREATEST_PRIVATE / 1e6:g} MB"],
    ]
    show(["a task that brings a command", "", "target"], rows, markdown=arguments.markdown)
    return 1 if delay > GREATEST_DELAY or private > GREATEST_PRIVATE else 0


if __name__ == "__main__":
    sys.exit(main())
