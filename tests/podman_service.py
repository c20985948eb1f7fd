"""The service of Podman for tests, with directories of its own, which mounts what it mounts for itself alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import rootfs
from tests.docker_daemon import IMAGE
from tests.machine import hierarchies

_TIMEOUT = 60
# As root of a container on a host with both versions of cgroups has it: the limits of Debian's cannot be raised here.
_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class Podman:
    """A service, and its client."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def __call__(self, *arguments: str | Path, data: bytes | None = None) -> str:
        """Runs it to its end, and returns what it prints."""
        command = ["podman", "-H", f"unix://{self.socket}", *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def names(self) -> set[str]:
        """The containers that there are, also those that do not run."""
        return set(self("ps", "--all", "--format", "{{.Names}}").split())


@contextlib.contextmanager
def podman() -> Iterator[Podman]:
    """One with IMAGE, when it is ready."""
    if absent := [name for name in ("podman", "runc", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: podman, runc)")
    if reason := rootfs.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="podman-") as name:
        directory = Path(name)
        (directory / "containers.conf").write_text(_CONFIGURATION)
        archive = ["tar", "-C", str(rootfs.make(directory / "rootfs")), "-c", "."]
        with _service(directory) as found:
            found("import", "-", IMAGE, data=subprocess.run(archive, capture_output=True, check=True).stdout)
            with _common_cgroups():
                found("run", "--rm", "--net=host", IMAGE, "true")  # What it makes once for all, it makes now.
                yield found


@contextlib.contextmanager
def _common_cgroups() -> Iterator[None]:
    """Removes at the end the cgroups of all its containers, where they were not there before."""
    common = [hierarchy / "libpod_parent" for hierarchy in hierarchies()]
    missing = [cgroup for cgroup in common if not cgroup.exists()]
    try:
        yield
    finally:
        for cgroup in missing:
            for directory, _, _ in os.walk(cgroup, topdown=False):
                Path(directory).rmdir()


@contextlib.contextmanager
def _service(directory: Path) -> Iterator[Podman]:
    places = {"root": "storage", "runroot": "run", "tmpdir": "tmp"}
    options = [f"--{option}={directory / place}" for option, place in places.items()]
    service = ["system", "service", "--time=0", f"unix://{directory / 'socket'}"]
    argv = ["unshare", "--mount", "--propagation=private", "podman", *options, *service]
    environment = {**os.environ, "CONTAINERS_CONF": str(directory / "containers.conf")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + _TIMEOUT
        while not (directory / "socket").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the service of Podman does not start: {(directory / 'log').read_text()}")
            time.sleep(0.05)  # It tells nobody else that it is there.
        yield Podman(directory / "socket")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_TIMEOUT)
