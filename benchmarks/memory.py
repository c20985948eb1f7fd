"""How much memory it takes to keep a container: of processes other than its command, while that sleeps.

Private memory is what would be free if the process ended. The proportional share (PSS) divides what processes share
among them. The exit status is 1 where the init of a container has more private memory than its target.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ours
from peers import Peer, installed
from report import show
from workplace import Workplace, workplace

GREATEST_PRIVATE = 2_000_000
INIT = "mesocosm, init of a container"


@dataclass(frozen=True, order=True)
class Memory:
    """Bytes, as /proc/PID/smaps_rollup has them."""

    private: int = 0
    proportional: int = 0
    resident: int = 0

    @classmethod
    def of(cls, pids: Iterable[int]) -> Memory:
        """The sum for some processes."""
        memories = [cls._of_one(pid) for pid in pids]
        return cls(*(sum(getattr(memory, name) for memory in memories) for name in cls.__dataclass_fields__))

    @classmethod
    def _of_one(cls, pid: int) -> Memory:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
        return cls(sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Pss"], sizes["Rss"])

    def columns(self) -> list[str]:
        """What the table shows."""
        return [f"{value / 1e6:.2f} MB" for value in (self.private, self.proportional, self.resident)]


async def library(place: Workplace, count: int) -> dict[str, Memory]:
    """The median init of `count` containers, the launcher, and this process, which holds the library."""
    async with ours.containerizer(place) as containerizer:
        containers = [await ours.launch(containerizer, place, "/bin/sleep", "100000") for _ in range(count)]
        inits = [(await containerizer.status(container_id)).executor_pid or 0 for container_id in containers]
        return {
            INIT: _median(Memory.of([pid]) for pid in inits),
            "mesocosm, launcher (one for all)": Memory.of([_parent(inits[0])]),
            "mesocosm, library (one for all)": Memory.of([os.getpid()]),
        }


def program(peer: Peer, place: Workplace, count: int) -> Memory:
    """The processes of the median of `count` containers, less the one that sleeps."""
    processes = [peer.start(place, "/bin/sh", "-c", "echo; exec sleep 100000") for _ in range(count)]
    for process in processes:
        _await_line(process)  # The container stands.
    trees = [_tree(process.pid) for process in processes]
    memory = _median(Memory.of(tree[:-1]) for tree in trees)
    for process, tree in zip(processes, trees, strict=True):
        os.kill(tree[-1], signal.SIGKILL)
        process.communicate()
    return memory


def _await_line(process: subprocess.Popen[bytes]) -> None:
    if not process.stdout or not process.stdout.readline():
        raise RuntimeError(f"{process.args!r}: exit status {process.wait()}")


def _median(memories: Iterable[Memory]) -> Memory:
    ordered = sorted(memories)
    return ordered[len(ordered) // 2]


def _tree(pid: int) -> list[int]:
    """A process and its descendants, the command last: no runtime has more than one child."""
    children = " ".join(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(descendant for child in children.split() for descendant in _tree(int(child)))]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=10, help="how many there are at a time")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place:
        memories = asyncio.run(library(place, arguments.containers))
        for peer in installed():
            memories[f"{peer.name}, for each container"] = program(peer, place, arguments.containers)
    rows = [[name, *memory.columns()] for name, memory in memories.items()]
    show(["memory", "private", "PSS", "RSS"], rows, markdown=arguments.markdown)
    return 0 if memories[INIT].private <= GREATEST_PRIVATE else 1


if __name__ == "__main__":
    sys.exit(main())
