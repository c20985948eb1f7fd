"""`docker run`, of a daemon that is started for it with directories and cgroups of its own, and removed again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import seconds
from workplace import Workplace

_IMAGE = "benchmark"
_PATIENCE = 60.0
"""Seconds in which the daemon has to answer, and to end."""
_CGROUPS = Path("/sys/fs/cgroup")


class Docker:
    """The client of one daemon."""

    def __init__(self, socket: Path, cgroup_parent: str) -> None:
        self._client = ["docker", "--host", f"unix://{socket}"]
        self._cgroup_parent = cgroup_parent

    @property
    def answers(self) -> bool:
        """Whether the daemon is ready."""
        return subprocess.run([*self._client, "info"], capture_output=True).returncode == 0

    def import_image(self, rootfs: Path) -> None:
        """Makes the image of the containers."""
        archive = subprocess.run(["tar", "-C", str(rootfs), "-c", "."], capture_output=True, check=True).stdout
        subprocess.run([*self._client, "import", "-", _IMAGE], input=archive, capture_output=True, check=True)

    def run(self, *command: str, network: str) -> float:
        """The seconds of `docker run` in such a network, with the limits of the other containers."""
        limits = ["--cpu-shares=1024", "--memory=64m", "--pids-limit=100", f"--cgroup-parent={self._cgroup_parent}"]
        return seconds([*self._client, "run", "--rm", f"--network={network}", *limits, _IMAGE, *command])


def missing() -> str | None:
    """Why there is no Docker here; None if there is."""
    absent = [
        program
        for program in ("docker", "dockerd", "containerd", "iptables", "unshare")
        if shutil.which(program) is None
    ]
    return f"{', '.join(absent)} not installed (Debian: docker.io, iptables)" if absent else None


@contextmanager
def docker(place: Workplace) -> Iterator[Docker]:
    """A daemon with the root file system of all as its image.

    What it mounts, it mounts for itself alone; its bridge, and the host's network as its containers have it, are those
    of a network namespace of its own.
    """
    directory, cgroup_parent = place.work / "docker", f"/mesocosm-benchmark-docker-{os.getpid()}"
    directory.mkdir(parents=True)
    paths = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    argv = ["unshare", "--mount", "--propagation=private", "--net", "dockerd", f"--host=unix://{directory / 'socket'}"]
    argv += [f"--{flag}={directory / name}" for flag, name in paths.items()]
    argv.append("--log-level=warn")
    with (directory / "log").open("wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        client = Docker(directory / "socket", cgroup_parent)
        _await(client, daemon, directory / "log")
        client.import_image(place.rootfs)
        yield client
    finally:
        daemon.terminate()
        daemon.wait(_PATIENCE)
        _remove_cgroups(cgroup_parent)


def _await(client: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not client.answers:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the Docker daemon does not start: {log.read_text()}")
        time.sleep(0.1)


def _remove_cgroups(parent: str) -> None:
    for cgroup in (*_CGROUPS.glob(f"*{parent}"), *_CGROUPS.glob(parent[1:])):
        with contextlib.suppress(FileNotFoundError):  # cpu is cpu,cpuacct by another name.
            cgroup.rmdir()
