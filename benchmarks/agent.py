"""The agent over HTTP: how long `true` takes, and what it is like to have many idle containers.

Beside it are the library, in this process and with the same container, crun, and `docker run` where there is a daemon;
everyone has a turn in every round, in random order. The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import ours
from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Resources
from peers import installed, seconds
from report import median, milliseconds, percentile, show
from service import Client, Service, service
from workplace import Workplace, workplace

AGENT = "mesocosm agent, one connection"
RECONNECTED = "mesocosm agent, a connection for each call"
LIBRARY = "mesocosm, library"
DOCKER = "docker run"
_PAUSE = 0.02
"""Seconds between two measurements, in which whoever has something to do afterwards does it, on his own time."""
_REPEATS = 9
_RESTARTS = 3

_numbers = itertools.count()

Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Target:
    """A number that is to be reached, and the text it is shown as."""

    name: str
    value: float
    unit: str
    most: float

    @property
    def missed(self) -> bool:
        """Whether it was not."""
        return self.value > self.most

    def columns(self) -> list[str]:
        """What the table shows."""
        return [self.name, f"{self.value:.2f} {self.unit}".strip(), f"≤ {self.most:.4g} {self.unit}".strip()]


# One container at a time.


async def take_turns(place: Workplace, client: Client, reconnecting: Client, rounds: int) -> dict[str, list[float]]:
    """The seconds of each contender in each round."""
    command = _true(place)
    async with ours.containerizer(place) as containerizer:
        with _docker(place) as docker:
            contenders: dict[str, Measure] = {
                AGENT: lambda: _immediate(client.launch_to_exit(command)),
                RECONNECTED: lambda: _immediate(reconnecting.launch_to_exit(command)),
                LIBRARY: lambda: _launch_to_exit(containerizer, command),
            }
            for peer in installed():
                if peer.program == "crun":
                    contenders[peer.name] = lambda peer=peer: _immediate(peer.measure(place, "/bin/true"))
            if docker is not None:
                contenders[DOCKER] = lambda: _immediate(docker())
            times: dict[str, list[float]] = {name: [] for name in contenders}
            for number in range(rounds + 1):
                for name in random.sample(list(contenders), len(contenders)):  # Nobody always comes after the same one.
                    elapsed = await contenders[name]()
                    if number:  # The first one of each reads its files from disk.
                        times[name].append(elapsed)
                    await asyncio.sleep(_PAUSE)
    return times


def _true(place: Workplace) -> tuple[str, ...]:
    """A container of the agent sees the host's files: without images, it can have no others."""
    return str(place.rootfs / "bin/busybox"), "true"


async def _launch_to_exit(containerizer: MesosContainerizer, command: Sequence[str]) -> float:
    """What the agent does for the two calls, without it."""
    start = time.perf_counter()
    container_id = ContainerID(f"library-{next(_numbers)}")
    config = ContainerConfig(CommandInfo.of(tuple(command)), resources=Resources(cpus=1, mem=64 << 20))
    await containerizer.launch(container_id, config)
    await containerizer.wait(container_id)
    elapsed = time.perf_counter() - start
    await containerizer.remove(container_id)
    return elapsed


async def _immediate(value: float) -> float:
    return value


@contextlib.contextmanager
def _docker(place: Workplace) -> Iterator[Callable[[], float] | None]:
    """Measures `docker run` with the root file system of all, as an image; None where no daemon answers."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        yield None
        return
    image = f"mesocosm-benchmark-{os.getpid()}"
    archive = subprocess.run(["tar", "-C", str(place.rootfs), "-c", "."], capture_output=True, check=True).stdout
    subprocess.run(["docker", "import", "-", image], input=archive, capture_output=True, check=True)
    try:
        yield lambda: seconds(["docker", "run", "--rm", image, "/bin/true"])
    finally:
        subprocess.run(["docker", "rmi", image], capture_output=True, check=True)


# Many idle ones.


def among_idle(agent: Service, client: Client, command: Sequence[str], count: int, rounds: int) -> list[Target]:
    """Launches them, and measures what it is like then."""
    alone = _latency(client, command, rounds)
    for _ in range(count):
        client.launch(["/bin/sleep", "100000"])
    among = _latency(client, command, rounds)
    statistics = [_timed(lambda: client.get("/monitor/statistics")) for _ in range(_REPEATS)]
    waits = _health_meanwhile(agent, client)
    memory = agent.memory()
    client.close()
    restarts = []
    for _ in range(_RESTARTS):
        agent.end(signal.SIGKILL)
        restarts.append(_timed(lambda: agent.start_and_await(count)))
    memory = max(memory, agent.memory())
    return [
        Target(f"launch and wait, {count} idle containers to none", among / alone, "", 1.5),
        Target(f"/monitor/statistics of {count}", median(statistics) * 1000, "ms", 250),
        Target(f"/health while {count} are listed, the longest", max(waits) * 1000, "ms", 50),
        Target(f"exec to {count} recovered, after kill -9", median(restarts), "s", 1.5),
        Target(f"resident memory with {count}", memory / 1e6, "MB", 120),
    ]


def _latency(client: Client, command: Sequence[str], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        times.append(client.launch_to_exit(command))
        time.sleep(_PAUSE)
    return median(times)


def _health_meanwhile(agent: Service, client: Client) -> list[float]:
    """The seconds that each GET /health takes while another client lists all containers, again and again."""
    other = Client(agent.port)
    other.get("/health")
    times = []
    listing = threading.Thread(target=lambda: [client.list_containers() for _ in range(_REPEATS)])
    listing.start()
    while listing.is_alive():
        times.append(_timed(lambda: other.get("/health")))
        time.sleep(0.001)
    listing.join()
    other.close()
    return times


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def targets(times: dict[str, list[float]]) -> list[Target]:
    """Those of one container at a time."""
    agent = median(times[AGENT])
    found = [Target("launch and wait of `true`, one connection", agent * 1000, "ms", 8)]
    if DOCKER in times:
        found.append(Target("the same to `docker run`", agent / median(times[DOCKER]), "", 1 / 30))
    return found


def rows(times: dict[str, list[float]]) -> list[list[str]]:
    """One line for each contender, the fastest first."""
    agent = median(times[AGENT])
    return [
        [
            name,
            milliseconds(median(values)),
            milliseconds(min(values)),
            milliseconds(percentile(values, 0.95)),
            f"{median(values) / agent:.2f}",
        ]
        for name, values in sorted(times.items(), key=lambda item: median(item[1]))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--idle", type=int, default=500, help="containers that sleep")
    parser.add_argument("--markdown", action="store_true", help="print the tables for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place, service(place) as agent:
        client, reconnecting = Client(agent.port), Client(agent.port, keep=False)
        times = asyncio.run(take_turns(place, client, reconnecting, arguments.rounds))
        found = [*targets(times), *among_idle(agent, client, _true(place), arguments.idle, arguments.rounds)]
    header = ["launch and wait of `true`", "median", "least", "95 %", "to the agent"]
    show(header, rows(times), markdown=arguments.markdown)
    print()
    show(["agent", "measured", "target"], [target.columns() for target in found], markdown=arguments.markdown)
    missed = [target.name for target in found if target.missed]
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
