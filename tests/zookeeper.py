"""A real ZooKeeper (Debian's zookeeper) for one test, on a free port of loopback, in a directory of the test."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.command_line import TIMEOUT
from tests.registry import need

_JAR = Path("/usr/share/java/zookeeper.jar")
_CLASS = "org.apache.zookeeper.server.ZooKeeperServerMain"


class ZooKeeper:
    """A server that can be stopped and started again, with what it was told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        configuration = self.directory / "zoo.cfg"
        lines = {
            "dataDir": self.directory / "data",
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "tickTime": 100,  # A session lasts 20 of them at most, and 2 at least.
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "srvr",
        }
        configuration.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        # The interpreter alone starts faster than compilers of which a test has no use.
        argv = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx128m", "-cp", str(_JAR), _CLASS]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*argv, str(configuration)], stdout=log, stderr=log)
        deadline = time.monotonic() + 2 * TIMEOUT
        while True:
            if self._answers():
                return
            is_running = self._process.poll() is None
            assert is_running, (self.directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)  # Nothing tells when a program listens.

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"srvr")
            return connection.recv(64).startswith(b"Zookeeper version")
        return False

    def stop(self) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def client(self, **options: Any) -> Iterator[Any]:
        """A client for one session."""
        client = KazooClient(hosts=self.address, timeout=TIMEOUT, **options)
        client.start(TIMEOUT)
        try:
            yield client
        finally:
            client.stop()
            client.close()

    @contextmanager
    def master(self, pid: str, path: str = "/mesos", label: str = "json.info_", **options: Any) -> Iterator[str]:
        """A master among those at `path`, as long as its session lasts; the name of its node."""
        address, _, port = pid.rpartition("@")[2].rpartition(":")
        info = {"address": {"ip": address, "port": int(port)}, "id": pid, "ip": 0, "pid": pid, "port": int(port)}
        with self.client() as client:
            yield client.create(
                f"{path}/{label}", json.dumps(info).encode(), ephemeral=True, sequence=True, makepath=True, **options
            )


@contextmanager
def zookeeper(directory: Path) -> Iterator[ZooKeeper]:
    """A server that runs. Skips where Debian's packages are missing."""
    need("java")
    if not _JAR.exists():
        pytest.skip("zookeeper is not installed")
    server = ZooKeeper(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
