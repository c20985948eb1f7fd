"""How long it takes to pull and unpack an image of Debian with 8 layers from a registry here, and in how much memory.

The image has the files of the packages of this machine that every Debian has. The peer is `skopeo copy` into an OCI
layout, followed by `umoci unpack`. All begin with nothing, and take turns. The exit status is 1 where Mesocosm is
slower, or takes more memory than its target.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from report import median, show
from turns import Measure, take_turns

LAYERS = 8
GREATEST_MEMORY = 150e6
NEEDED = ("docker-registry", "skopeo", "umoci", "dpkg-query", "tar")
OURS, PEER = "mesocosm pull", "skopeo copy, umoci unpack"
_STILL = ("/bin", "/etc", "/lib", "/opt", "/sbin", "/usr", "/var/lib")
"""Where nothing changes while it is read."""
_EVERY = 0.01
"""Seconds between two looks at the memory."""


def run(*arguments: str | Path, **options: object) -> str:
    return subprocess.run(
        [str(argument) for argument in arguments], check=True, stdout=subprocess.PIPE, text=True, **options
    ).stdout  # type: ignore[call-overload, no-any-return]


def make_image(directory: Path) -> int:
    """Makes the OCI layout `directory`/image, and returns how many bytes its archives have when decompressed."""
    layout, size = directory / "image", 0
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:1")
    for number, names in enumerate(split(packages())):
        archive, files = directory / "layer.tar", directory / "files"
        files.write_text("\n".join(names))
        run("tar", "-cf", archive, "--no-recursion", "--xattrs", "-C", "/", "-T", files)
        size += archive.stat().st_size
        run("umoci", "raw", "add-layer", "--image", f"{layout}:1", archive)
        print(f"layer {number + 1} of {LAYERS}", file=sys.stderr)
    return size


def packages() -> list[list[str]]:
    """The files of each package that every Debian has, as far as they are there."""
    lines = run("dpkg-query", "-W", "-f", "${Priority} ${binary:Package}\n").splitlines()
    chosen = [line.split()[1] for line in lines if line.startswith(("required", "important"))]
    lists = (run("dpkg-query", "-L", package).splitlines() for package in chosen)
    return [
        [f".{resolved(name)}" for name in names if name.startswith(_STILL) and Path(name).exists()] for names in lists
    ]


def resolved(name: str) -> Path:
    """The name of a file without links on the way, such as `/bin`."""
    return Path(name).parent.resolve() / Path(name).name


def split(lists: list[list[str]]) -> list[list[str]]:
    """All files in as many parts as there are layers; the directories on the way are in each."""
    each = -(-len(lists) // LAYERS)
    return [
        sorted({name for names in lists[start : start + each] for name in names})
        for start in range(0, len(lists), each)
    ]


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """A registry with the image; the name of that."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}},
        "http": {"addr": address},
    }
    (directory / "config.yml").write_text(json.dumps(config))
    with subprocess.Popen(["docker-registry", "serve", directory / "config.yml"], stderr=subprocess.DEVNULL) as process:
        try:
            copy = ("skopeo", "copy", "-q", "--dest-tls-verify=false", "--retry-times", "5")
            run(*copy, f"oci:{directory}/image:1", f"docker://{address}/debian:1")
            yield f"{address}/debian:1"
        finally:
            process.terminate()


def ours(reference: str, directory: Path) -> list[list[str]]:
    """The commands that pull the image to an empty directory."""
    return [[sys.executable, "-m", "mesocosm", "pull", "--quiet", "--store", f"{directory}/store", reference]]


def peer(reference: str, directory: Path) -> list[list[str]]:
    return [
        ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"oci:{directory}/layout:1"],
        ["umoci", "unpack", "--image", f"{directory}/layout:1", f"{directory}/bundle"],
    ]


def seconds(commands: Callable[[str, Path], list[list[str]]], reference: str, place: Path) -> float:
    """How long the commands take, one after the other. What they made is removed afterwards."""
    directory = Path(tempfile.mkdtemp(dir=place))
    start = time.perf_counter()
    for command in commands(reference, directory):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    elapsed = time.perf_counter() - start
    shutil.rmtree(directory)
    return elapsed


def memory(commands: Callable[[str, Path], list[list[str]]], reference: str, place: Path) -> float:
    """The most memory that the commands take, as often as it is looked at: the PSS of all their processes."""
    directory, most = Path(tempfile.mkdtemp(dir=place)), 0
    for command in commands(reference, directory):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            ended = threading.Event()
            threading.Thread(target=lambda process=process, ended=ended: (process.wait(), ended.set())).start()
            while not ended.wait(_EVERY):
                most = max(most, sum(map(pss, tree(process.pid))))
    shutil.rmtree(directory)
    return most


def tree(pid: int) -> list[int]:
    """A process and its descendants, those that are still there."""
    try:
        children = " ".join(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []
    return [pid, *(descendant for child in children.split() for descendant in tree(int(child)))]


def pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # It has ended.
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


async def measure(reference: str, place: Path, rounds: int) -> dict[str, list[float]]:
    contenders: dict[str, Measure] = {
        name: lambda commands=commands: asyncio.to_thread(seconds, commands, reference, place)
        for name, commands in ((OURS, ours), (PEER, peer))
    }
    return await take_turns(contenders, rounds, limit=300)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/performance.md")
    arguments = parser.parse_args()
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        print(f"skipped: {', '.join(missing)} is not installed")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        size = make_image(place)
        with registry(place) as reference:
            times = asyncio.run(measure(reference, place, arguments.rounds))
            memories = {name: memory(commands, reference, place) for name, commands in ((OURS, ours), (PEER, peer))}
    header = [f"pull and unpack {size / 1e6:.0f} MB in {LAYERS} layers", "median", "least", "memory"]
    rows = [
        [name, f"{median(values):.2f} s", f"{min(values):.2f} s", f"{memories[name] / 1e6:.0f} MB"]
        for name, values in times.items()
    ]
    show(header, rows, markdown=arguments.markdown)
    return 0 if median(times[OURS]) <= median(times[PEER]) and memories[OURS] <= GREATEST_MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
