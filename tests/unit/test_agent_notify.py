"""What systemd is told, and its unit."""

from __future__ import annotations

import asyncio
import configparser
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.agent.notify import Notifier

UNIT = Path(__file__).parents[2] / "packaging/mesocosm-agent.service"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """The socket of a service manager, and the environment that names it."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("needs abstract sockets")
    name = str(tmp_path / "notify") if request.param == "path" else f"@mesocosm-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(5)
        yield listening, {"NOTIFY_SOCKET": name}


def test_messages(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environment = manager
    notifier = Notifier(environment)
    notifier.ready()
    notifier.stopping()
    assert [listening.recv(99) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


async def test_the_watchdog(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environment = manager
    notifier = Notifier(environment | {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog == 0.02
    task = asyncio.create_task(notifier.keep_alive())
    begun = time.monotonic()
    for _ in range(4):
        assert await asyncio.to_thread(listening.recv, 99) == b"WATCHDOG=1"
    assert time.monotonic() - begun > 0.025
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "20000"},
        {"NOTIFY_SOCKET": "/x"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},
    ],
)
async def test_no_watchdog(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    assert notifier.watchdog is None
    async with asyncio.timeout(5):
        await notifier.keep_alive()


def test_without_a_manager(caplog: pytest.LogCaptureFixture) -> None:
    Notifier({}).ready()
    assert not caplog.messages


def test_a_manager_that_does_not_listen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert caplog.messages == ["the service manager was not told READY=1: No such file or directory"]


def test_a_manager_that_does_not_read(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):
            notifier.ready()


# The unit.


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser


def test_the_end_of_the_agent_leaves_containers_running(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["Delegate"] == "yes"
    assert service["OOMPolicy"] == "continue"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["RuntimeDirectory"] == service["StateDirectory"] == "mesocosm"
    assert "ExecStop" not in service


def test_the_agent_is_watched(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["ExecStart"].split()[1:] == ["agent"]
    assert service["ExecReload"].split()[1:] == ["-HUP", "$MAINPID"]
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_containers_do_not_suffer_from_hardening(unit: configparser.ConfigParser) -> None:
    inherited = {
        *("NoNewPrivileges", "SystemCallFilter", "SystemCallArchitectures", "RestrictNamespaces", "RestrictSUIDSGID"),
        *("RestrictRealtime", "RestrictAddressFamilies", "LockPersonality", "MemoryDenyWriteExecute", "OOMScoreAdjust"),
        *("ProtectClock", "ProtectHostname", "ProtectKernelModules", "ProtectKernelLogs", "SecureBits"),
    }
    mounted = {
        *("PrivateTmp", "ProtectSystem", "ProtectHome", "PrivateDevices", "ProtectKernelTunables", "PrivateMounts"),
        *(
            "ProtectControlGroups",
            "ReadOnlyPaths",
            "InaccessiblePaths",
            "ReadWritePaths",
            "RootDirectory",
            "ProtectProc",
        ),
        *("PrivateNetwork", "PrivateIPC", "PrivateUsers", "DynamicUser", "MountFlags", "DevicePolicy", "BindPaths"),
    }
    assert not set(unit["Service"]) & (inherited | mounted)
    assert unit["Service"]["CapabilityBoundingSet"].startswith("~"), "all but those"


def test_systemd_understands_it(unit: configparser.ConfigParser, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(unit["Service"]["ExecStart"], "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", copy], check=False, capture_output=True, text=True)
    assert UNIT.name not in done.stderr
