"""How long `true` takes in a container, from launch to exit: Mesocosm and the peers that are installed, side by side.

The exit status is 1 where the library is slower than crun or bubblewrap.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import ours
from peers import installed, seconds
from report import median, show
from turns import COLUMNS, Measure, immediate, rows, take_turns
from workplace import Workplace, workplace

LIBRARY = "mesocosm, library"
COMMAND = "mesocosm run"
_MUST_BEAT = ("bwrap", "crun")


async def measure(place: Workplace, rounds: int, limit: float) -> dict[str, list[float]]:
    """The seconds of each contender in each round, of which no more begin after `limit` seconds."""
    async with ours.containerizer(place) as containerizer:
        contenders: dict[str, Measure] = {
            LIBRARY: lambda: ours.launch_to_exit(containerizer, place),
            COMMAND: lambda: immediate(seconds(_command_line(place))),
        }
        for peer in installed():
            contenders[peer.name] = lambda peer=peer: immediate(peer.measure(place, "/bin/true"))
        return await take_turns(contenders, rounds, limit)


def _command_line(place: Workplace) -> list[str]:
    directories = ["--work-dir", str(place.work), "--runtime-dir", str(place.state / "mesocosm-run")]
    return [sys.executable, "-m", "mesocosm", "run", *directories, "--rootfs", str(place.rootfs), "--", "/bin/true"]


def faster_peers(times: dict[str, list[float]]) -> list[str]:
    """The peers that should be slower than the library, and are not."""
    library = median(times[LIBRARY])
    return [name for name, values in times.items() if name.startswith(_MUST_BEAT) and median(values) < library]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=40, help="when to stop before the last round")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/performance.md")
    arguments = parser.parse_args()
    with workplace() as place:
        times = asyncio.run(measure(place, arguments.rounds, arguments.seconds))
    header = ["launch to exit of `true`", *COLUMNS, "to the library"]
    show(header, rows(times, LIBRARY), markdown=arguments.markdown)
    for name in faster_peers(times):
        print(f"{name} is faster than the library", file=sys.stderr)
    return 1 if faster_peers(times) else 0


if __name__ == "__main__":
    sys.exit(main())
