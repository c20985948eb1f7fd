"""Other programs that make containers, started as cheaply as a program can be, on the root file system of all.

Each makes a mount, a pid and an IPC namespace, and mounts /proc, /dev and, if it has the words for it, /sys and the
other usual file systems. Only runc makes cgroups, as Mesocosm does.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.linux.namespaces import Namespace, unshare
from workplace import Workplace

_numbers = itertools.count()


@dataclass(frozen=True)
class Peer:
    """A program, the command line that runs a command in a container, and how to call a function where it works."""

    program: str
    command_line: Callable[[Workplace, tuple[str, ...]], list[str]]
    call: Callable[[Callable[[], Any]], Any] = lambda function: function()

    @property
    def name(self) -> str:
        """The program and its version, the last word of the first line of what `--version` prints."""
        output = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        return f"{self.program} {output.splitlines()[0].split()[-1]}"

    def measure(self, place: Workplace, *command: str) -> float:
        """The seconds from the program's start to its exit, when it runs `command`."""
        argv = self.command_line(place, command)
        return float(self.call(lambda: seconds(argv)))

    def start(self, place: Workplace, *command: str) -> subprocess.Popen[bytes]:
        """Starts the program, with a pipe for its output."""
        argv = self.command_line(place, command)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process: subprocess.Popen[bytes] = self.call(lambda: subprocess.Popen(argv, **streams))
        return process


def seconds(argv: list[str]) -> float:
    """From just before a process is spawned, which glibc does like vfork(2), to the return of the wait for it."""
    path = str(shutil.which(argv[0]))
    start = time.perf_counter()
    _, status = os.waitpid(os.posix_spawn(path, argv, os.environ), 0)
    elapsed = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{' '.join(argv)}: wait status {status}")
    return elapsed


def installed() -> list[Peer]:
    """The peers that this machine has."""
    worker = ThreadPoolExecutor(1, initializer=_see_only_cgroup2)
    peers = [
        Peer("unshare", _unshare),
        Peer("bwrap", _bwrap),
        Peer("crun", _crun, call=lambda function: worker.submit(function).result()),
        Peer("runc", _runc),
    ]
    return [peer for peer in peers if shutil.which(peer.program)]


def _unshare(place: Workplace, command: tuple[str, ...]) -> list[str]:
    namespaces = ["--mount", "--pid", "--fork", "--ipc", "--mount-proc"]
    return ["unshare", *namespaces, "--root", str(place.rootfs), *command]


def _bwrap(place: Workplace, command: tuple[str, ...]) -> list[str]:
    mounts = ["--bind", str(place.rootfs), "/", "--proc", "/proc", "--dev", "/dev"]
    return ["bwrap", "--unshare-pid", "--unshare-ipc", *mounts, "--", *command]


def _crun(place: Workplace, command: tuple[str, ...]) -> list[str]:
    bundle = _bundle(place, "crun", command, resources={})
    state = str(place.state / "crun")
    return ["crun", "--root", state, "--cgroup-manager=disabled", "run", "--bundle", str(bundle), bundle.name]


def _runc(place: Workplace, command: tuple[str, ...]) -> list[str]:
    resources = {"cpu": {"shares": 1024}, "memory": {"limit": 64 << 20}, "pids": {"limit": 100}}
    bundle = _bundle(place, "runc", command, resources)
    return ["runc", "--root", str(place.state / "runc"), "run", "--bundle", str(bundle), bundle.name]


def _bundle(place: Workplace, name: str, command: tuple[str, ...], resources: dict[str, object]) -> Path:
    """An OCI bundle: a directory with the description of a container, named as no other."""
    bundle = place.state / f"{name}-bundle-{next(_numbers)}"
    bundle.mkdir()
    description = {
        "ociVersion": "1.0.2",
        "root": {"path": str(place.rootfs)},
        "process": {"cwd": "/", "args": command, "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc")], "resources": resources},
    }
    (bundle / "config.json").write_text(json.dumps(description))
    return bundle


def _see_only_cgroup2() -> None:
    """Moves the calling thread to a mount namespace where crun finds a layout of cgroups that it accepts.

    It refuses a host with both versions. What the thread spawns is born there, so nothing is added to crun's time.
    """
    unshare(Namespace.MOUNT)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
