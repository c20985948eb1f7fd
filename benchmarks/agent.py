"""The agent over HTTP: how long `true` takes, and what it is like to have many idle containers.

Beside it are the library, in this process and with the same container, crun, and `docker run` where that is installed.
The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import ours
from docker import docker, missing
from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Resources
from peers import Peer, installed
from report import median, show
from service import Client, Service, service
from turns import COLUMNS, PAUSE, Measure, immediate, rows, take_turns
from workplace import Workplace, workplace

AGENT = "mesocosm agent, one connection"
RECONNECTED = "mesocosm agent, a connection for each call"
LIBRARY = "mesocosm, library"
DOCKER = "docker run"
DOCKER_IN_HOST = "docker run --network=host"
_REPEATS = 9
_RESTARTS = 3

_numbers = itertools.count()


@dataclass(frozen=True)
class Target:
    """A number that is `bound` at most, or else `at_least`; without a bound it is only told."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Whether it is not."""
        if self.bound is None:
            return False
        return self.value < self.bound if self.at_least else self.value > self.bound

    def columns(self) -> list[str]:
        """What the table shows."""
        value = f"{self.value:.2f} {self.unit}".strip()
        if self.bound is None:
            return [self.name, value, ""]
        sign = "≥" if self.at_least else "≤"
        return [self.name, value, f"{sign} {self.bound:g} {self.unit}".strip()]


# One container at a time.


async def one_at_a_time(agent: Service, place: Workplace, rounds: int, limit: float) -> dict[str, list[float]]:
    """The seconds of each contender in each round."""
    client, reconnecting, command = Client(agent.port), Client(agent.port, keep=False), _true(place)
    async with ours.containerizer(place) as containerizer:
        with _docker(place) as docker:
            contenders: dict[str, Measure] = {
                AGENT: lambda: immediate(client.launch_to_exit(command)),
                RECONNECTED: lambda: immediate(reconnecting.launch_to_exit(command)),
                LIBRARY: lambda: _launch_to_exit(containerizer, command),
                **{peer.name: partial(_measure, peer, place) for peer in installed() if peer.program == "crun"},
                **docker,
            }
            return await take_turns(contenders, rounds, limit)


async def _measure(peer: Peer, place: Workplace) -> float:
    return peer.measure(place, "/bin/true")


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


@contextlib.contextmanager
def _docker(place: Workplace) -> Iterator[dict[str, Measure]]:
    """`docker run` with the root file system of all, as an image; nothing, and why, where there is no Docker.

    As everyone types it, it has a network of its own; in the host's it does what the others do.
    """
    if (reason := missing()) is not None:
        print(f"without docker run: {reason}", file=sys.stderr)
        yield {}
        return
    with docker(place) as client:
        yield {
            DOCKER: lambda: immediate(client.run("/bin/true", network="bridge")),
            DOCKER_IN_HOST: lambda: immediate(client.run("/bin/true", network="host")),
        }


# Many idle ones.


def among_idle(agent: Service, command: Sequence[str], count: int, rounds: int) -> list[Target]:
    """Launches them, and measures what it is like then."""
    client = Client(agent.port)
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
        time.sleep(PAUSE)
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
        found.append(Target("`docker run` to that", median(times[DOCKER]) / agent, "", 30, at_least=True))
        found.append(Target("`docker run --network=host` to that", median(times[DOCKER_IN_HOST]) / agent, ""))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=60, help="when to stop before the last round")
    parser.add_argument("--idle", type=int, default=500, help="containers that sleep")
    parser.add_argument("--markdown", action="store_true", help="print the tables for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place, service(place) as agent:
        times = asyncio.run(one_at_a_time(agent, place, arguments.rounds, arguments.seconds))
        found = [*targets(times), *among_idle(agent, _true(place), arguments.idle, arguments.rounds)]
    header = ["launch and wait of `true`", *COLUMNS, "to the agent"]
    show(header, rows(times, AGENT), markdown=arguments.markdown)
    print()
    show(["agent", "measured", "target"], [target.columns() for target in found], markdown=arguments.markdown)
    missed = [target.name for target in found if target.missed]
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
