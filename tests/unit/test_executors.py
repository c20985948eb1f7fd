"""What executors need that takes no container: HTTP, their settings, and what they say."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesocosm.executors import statuses
from mesocosm.executors.checks import probes
from mesocosm.executors.checks.probes import Beside, CheckError
from mesocosm.executors.http import Address, Connection
from mesocosm.executors.processes import Children
from mesocosm.executors.settings import ExecutorError, Settings

NEEDED = {"MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e", "MESOS_AGENT_ENDPOINT": "127.0.0.1:5051"}


async def answer(*parts: bytes, close: bool = True) -> bytes:
    """The body of an answer that comes in parts, or the error."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server, await Connection.open(Address(*server.sockets[0].getsockname())) as connection:
        response = await connection.request("GET", "/", {})
        assert response.status == 200
        return await response.read()


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",),
        (b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhel", b"lo"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r",
            b"\n3;x=y\r\nllo\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nhel", b"lo"),
    ],
)
async def test_bodies(parts: tuple[bytes, ...]) -> None:
    assert await answer(*parts) == b"hello"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: x\r\n" % number for number in range(200)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * (5 << 20),
    ],
    ids=lambda text: repr(text[:60]),
)
async def test_what_is_not_http(text: bytes) -> None:
    with pytest.raises(ConnectionError):
        await answer(text)


def test_settings() -> None:
    environment = {**NEEDED, "MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "secret", "MESOS_RECOVERY_TIMEOUT": "15mins"}
    settings = Settings.take(environment)
    assert settings.token == "secret"
    assert "secret" not in {*environment.values(), repr(settings)}
    endpoint = Address("127.0.0.1", 5051)
    assert (settings.agents, settings.recovery_timeout, settings.checkpoint) == ((endpoint,), 900, False)
    (agent,) = Settings.take({**NEEDED, "MESOS_AGENT_ENDPOINT": "[::1]:5051"}).agents
    assert agent.authority == "[::1]:5051"
    assert Settings.take({**NEEDED, "MESOS_DOMAIN_SOCKET": "/run/x"}).agents == (Address(path="/run/x"), endpoint)


def test_settings_of_tls(tmp_path: Path) -> None:
    def context(**variables: str) -> ssl.SSLContext | None:
        (agent,) = Settings.take(
            {**NEEDED, **{f"LIBPROCESS_SSL_{name}": value for name, value in variables.items()}}
        ).agents
        return agent.tls

    assert context() is None
    assert context(ENABLED="false") is None
    unverified, verified = context(ENABLED="true"), context(ENABLED="1", VERIFY_SERVER_CERT="true")
    assert unverified is not None
    assert verified is not None
    assert (unverified.verify_mode, verified.verify_mode) == (ssl.CERT_NONE, ssl.CERT_REQUIRED)
    assert verified.check_hostname
    (tmp_path / "file").write_text("no certificate")
    for name in ("CA_FILE", "CERT_FILE"):
        with pytest.raises(ExecutorError, match="cannot be used"):
            context(ENABLED="1", VERIFY_CERT="1", **{name: str(tmp_path / "file")})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"MESOS_AGENT_ENDPOINT": "agent.example:5051"}, "no address"),
        ({"MESOS_AGENT_ENDPOINT": "127.0.0.1"}, "no address"),
        ({"MESOS_RECOVERY_TIMEOUT": "soon"}, "MESOS_RECOVERY_TIMEOUT: 'soon' is no duration"),
    ],
)
def test_settings_that_are_none(change: dict[str, str], reason: str) -> None:
    with pytest.raises(ExecutorError, match=reason):
        Settings.take({**NEEDED, **change})
    for name in NEEDED:
        with pytest.raises(ExecutorError, match=f"no {name} in"):
            Settings.take({key: value for key, value in NEEDED.items() if key != name})


def test_statuses() -> None:
    assert statuses.describe(3 << 8) == "Command exited with status 3"
    assert statuses.describe(signal.SIGTERM) == "Command terminated with signal Terminated"
    assert statuses.describe(signal.SIGSEGV | 128) == "Command terminated with signal Segmentation fault (core dumped)"
    first = statuses.make("e", "t", "TASK_RUNNING", message=None, reason="REASON_X")
    second = statuses.again(first, healthy=True)
    assert "message" not in first
    assert (second["reason"], second["healthy"]) == ("REASON_X", True)
    assert first["uuid"] != second["uuid"]
    assert first["timestamp"] == pytest.approx(time.time(), abs=60)


async def test_a_check_that_cannot_be_executed() -> None:
    with Children() as children:
        for command in ("/none such", "a NUL\0"):
            check = {"type": "COMMAND", "command": {"value": command, "shell": False}}
            with pytest.raises(CheckError):
                await probes.create(check, Beside(children))()


@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "[::1]"])
async def test_a_redirection_to_localhost(name: str) -> None:
    """It leads to the loopback where the task is asked already; no name is looked up."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        place = f"http://{name}:{port}/new" if len(asked) == 1 else f"http://elsewhere.example:{port}/"
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "::1")
    port = server.sockets[0].getsockname()[1]
    check = {"type": "HTTP", "http": {"port": port, "path": "/old", "protocol": "IPv6"}}
    async with server:
        with Children() as children, pytest.raises(CheckError, match=r"'elsewhere\.example' is no address"):
            await probes.create(check, Beside(children))()
    assert [request.split(b" ")[1] for request in asked] == [b"/old", b"/new"]
    assert f"\r\nHost: {name.lower()}:{port}\r\n".encode() in asked[1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "by its name"),
        (["sh"], 2, "no built-in program 'sh'"),
        (["command-executor"], 1, "MESOS_FRAMEWORK_ID"),
        (["docker-executor"], 1, "MESOCOSM_DOCKER_ORDERS"),
    ],
)
def test_an_executor_by_its_name(arguments: list[str], status: int, said: str) -> None:
    command = [sys.executable, "-m", "mesocosm.executors", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={})
    assert done.returncode == status
    assert said in done.stderr
