"""Daemons of Docker for tests, with directories of their own, which mount what they mount for themselves alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import rootfs
from tests.machine import await_end, hierarchies

IMAGE = "mesocosm-test"
"""Of busybox; `import_image` makes it."""
_TIMEOUT = 120
_PATHS = {"host": "unix://{}/socket", "data-root": "{}/data", "exec-root": "{}/exec", "pidfile": "{}/pid"}
_WITHOUT_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
_OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


class Docker:
    """A daemon, and its client."""

    def __init__(self, directory: Path, daemon: subprocess.Popen[bytes], cgroup: str) -> None:
        self.socket = directory / "socket"
        self.daemon = daemon
        self.cgroup = cgroup
        """Where the cgroups of its containers are."""
        self._command = ("docker", "--host", f"unix://{self.socket}")

    def __call__(self, *arguments: str | Path, data: bytes | None = None) -> str:
        """Runs it to its end, and returns what it prints."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}  # The other builder is a package of its own.
        done = subprocess.run(
            [*self._command, *arguments],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def import_image(self, root: Path, name: str = IMAGE, *changes: str) -> None:
        """Makes the image `name` of a root file system; `changes` are lines of a Dockerfile."""
        archive = subprocess.run(["tar", "-C", str(root), "-c", "."], capture_output=True, check=True).stdout
        self("import", *(f"--change={change}" for change in changes), "-", name, data=archive)

    def names(self) -> set[str]:
        """The containers that there are, also those that do not run."""
        return set(self("ps", "--all", "--format", "{{.Names}}").split())

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the daemon: one that is stopped hangs."""
        self.daemon.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.daemon.wait(_TIMEOUT)


@contextlib.contextmanager
def docker(directory: Path, *, bridge: bool = False) -> Iterator[Docker]:
    """One with its files in `directory`, when it is ready; with a `bridge`, in a network namespace of its own."""
    needed = ("docker", "dockerd", "containerd", "unshare", *(("ip", "iptables") if bridge else ()))
    if absent := [name for name in needed if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: docker.io, iproute2, iptables)")
    directory.mkdir(exist_ok=True)
    with _process(directory, _argv(directory, bridge=bridge)) as found:
        yield found


def _argv(directory: Path, *, bridge: bool) -> Sequence[str]:
    options = [f"--{name}={value.format(directory)}" for name, value in _PATHS.items()]
    apart = ["unshare", "--mount", "--propagation=private", *(_OWN_NETWORK if bridge else ())]
    return [*apart, "dockerd", *options, *(() if bridge else _WITHOUT_NETWORK)]


@contextlib.contextmanager
def _process(directory: Path, argv: Sequence[str]) -> Iterator[Docker]:
    cgroup = f"docker-{secrets.token_hex(5)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, (directory / "log").open("wb") as log:
        (directory / "notices").unlink(missing_ok=True)
        notices.bind(str(directory / "notices"))
        notices.settimeout(_TIMEOUT)
        # sd_notify(3); and a containerd that is slow to end is made to write its stacks into the directory for such.
        environment = {**os.environ, "NOTIFY_SOCKET": str(directory / "notices"), "TMPDIR": str(directory)}
        for hierarchy in hierarchies():  # The first container of the daemon would make it, and not its last remove it.
            (hierarchy / cgroup).mkdir()
        daemon = subprocess.Popen([*argv, f"--cgroup-parent=/{cgroup}"], stdout=log, stderr=log, env=environment)
        try:
            while b"READY=1" not in notices.recv(4096):
                pass
            yield Docker(directory, daemon, cgroup)
        except TimeoutError:
            pytest.fail(f"the daemon of Docker does not start: {(directory / 'log').read_text()}")
        finally:
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
            daemon.wait(_TIMEOUT)
            _kill(directory)  # What one that was killed has left.
            for hierarchy in hierarchies():  # One that was killed has removed none.
                for path, _, _ in os.walk(hierarchy / cgroup, topdown=False):
                    Path(path).rmdir()


def _kill(directory: Path) -> None:
    """Ends the processes whose arguments name it."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if str(directory).encode() in (path / "cmdline").read_bytes():
                os.kill(int(path.name), signal.SIGKILL)
                await_end(int(path.name), time.monotonic() + _TIMEOUT)


@pytest.fixture(scope="session")
def shared_docker() -> Iterator[Docker]:
    """A daemon without networks of its own for all tests, which remove what they make there, with `IMAGE`."""
    if reason := rootfs.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="docker-") as name, docker(Path(name)) as found:
        found.import_image(rootfs.make(Path(name, "rootfs")))
        yield found
