"""A daemon of Docker for one test, with directories of its own, which mounts what it mounts for itself alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_TIMEOUT = 60
_PATHS = {"host": "unix://{}/socket", "data-root": "{}/data", "exec-root": "{}/exec", "pidfile": "{}/pid"}
_WITHOUT_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")


class Docker:
    """Its client."""

    def __init__(self, socket_path: Path) -> None:
        self._command = ("docker", "--host", f"unix://{socket_path}")

    def __call__(self, *arguments: str | Path) -> None:
        """Runs it to its end."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}  # The other builder is a package of its own.
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Docker]:
    """One with its files in `directory`, when it is ready."""
    if absent := [name for name in ("docker", "dockerd", "containerd", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: docker.io)")
    directory.mkdir()
    options = [f"--{name}={value.format(directory)}" for name, value in _PATHS.items()]
    argv = ["unshare", "--mount", "--propagation=private", "dockerd", *options, *_WITHOUT_NETWORK]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, (directory / "log").open("wb") as log:
        notices.bind(str(directory / "notices"))
        notices.settimeout(_TIMEOUT)
        environment = {**os.environ, "NOTIFY_SOCKET": str(directory / "notices")}  # sd_notify(3)
        daemon = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        try:
            while b"READY=1" not in notices.recv(4096):
                pass
            yield Docker(directory / "socket")
        except TimeoutError:
            pytest.fail(f"the daemon of Docker does not start: {(directory / 'log').read_text()}")
        finally:
            daemon.terminate()
            daemon.wait(_TIMEOUT)
