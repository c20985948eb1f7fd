"""Checks and health checks of tasks, in real containers."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.executor_agent import EXECUTOR, ExecutorAgent, Json, seconds, task_info
from tests.launching import TIMEOUT

pytestmark = pytest.mark.kernel
TRUE = {"value": "true"}
SOON = {"delay_seconds": 0, "interval_seconds": 0.02, "timeout_seconds": 10, "grace_period_seconds": 0}
CHECKED, HEALTH = "REASON_TASK_CHECK_STATUS_UPDATED", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"


class Server:
    """A server on the loopback, as a task would be one, whose answer a test can change."""

    def __init__(self, certificate: Path | None = None, family: str = "127.0.0.1") -> None:
        self.status = 200
        self.paths: list[str] = []
        self._asked = threading.Semaphore(0)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                outer._asked.release()
                redirects = self.path == "/old"
                self.send_response(302 if redirects else outer.status)
                if redirects:
                    self.send_header("Location", "/new")
                self.end_headers()

            def log_message(self, format: str, *_arguments: Any) -> None:  # noqa: A002 - as in http.server.
                pass

        class Listening(http.server.ThreadingHTTPServer):
            address_family = 10 if ":" in family else 2

        self._server = Listening((family, 0), Handler)
        self.port = self._server.server_address[1]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def asked(self, count: int) -> None:
        """Returns after so many requests."""
        for _ in range(count):
            assert self._asked.acquire(timeout=TIMEOUT)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    yield serving
    serving.close()


@pytest.fixture
def secure_server(certificate: Path) -> Iterator[Server]:
    serving = Server(certificate)
    yield serving
    serving.close()


async def kill(agent: ExecutorAgent) -> None:
    """Ends the task at once."""
    await agent.send("KILL", task_id={"value": EXECUTOR}, kill_policy={"grace_period": seconds(0)})
    assert (await agent.end())["state"] == "TASK_KILLED"


async def test_the_answers_of_a_command_are_told(executor_agent: ExecutorAgent) -> None:
    """Only those that differ from the one before, in an update that has all the last one had.

    The command has the executor's environment, and the directory of the task.
    """
    check = {
        "type": "COMMAND",
        "command": {
            "command": {
                "value": "test $MESOS_EXECUTOR_ID = task-1 || exit 9; test -e ready && exit $CODE; touch ready; exit 1",
                "environment": {"variables": [{"name": "CODE", "value": "4"}]},
            }
        },
        **SOON,
    }
    executor = await executor_agent.executor()
    await executor_agent.subscribed()
    await executor_agent.send("LAUNCH", task=task_info("sleep 60", check=check))
    for state in ("TASK_STARTING", "TASK_RUNNING"):
        assert (await executor_agent.update(state))["check_status"] == {"type": "COMMAND", "command": {}}
    for code in (1, 4):
        status = await executor_agent.update("TASK_RUNNING")
        assert status["reason"] == CHECKED
        assert status["check_status"] == {"type": "COMMAND", "command": {"exit_code": code}}
        assert "healthy" not in status
    await kill(executor_agent)
    assert await executor.wait() == 0
    assert executor.stream() == "", "what a check writes is no output of the task"
    assert (executor.sandbox / "ready").exists()


async def test_the_status_of_an_answer_by_http(executor_agent: ExecutorAgent, server: Server) -> None:
    check = {"type": "HTTP", "http": {"port": server.port, "path": "/state?x=1"}, **SOON}
    server.status = 503
    await executor_agent.run("sleep 60", check=check)
    status = await executor_agent.update("TASK_RUNNING")
    assert status["check_status"] == {"type": "HTTP", "http": {"status_code": 503}}
    server.status = 200
    status = await executor_agent.update("TASK_RUNNING")
    assert status["check_status"] == {"type": "HTTP", "http": {"status_code": 200}}
    assert set(server.paths) == {"/state?x=1"}
    await kill(executor_agent)


async def test_connections_by_tcp(executor_agent: ExecutorAgent, server: Server) -> None:
    await executor_agent.run("sleep 60", check={"type": "TCP", "tcp": {"port": server.port}, **SOON})
    status = await executor_agent.update("TASK_RUNNING")
    assert status["check_status"] == {"type": "TCP", "tcp": {"succeeded": True}}
    await asyncio.to_thread(server.close)
    status = await executor_agent.update("TASK_RUNNING")
    assert status["check_status"] == {"type": "TCP", "tcp": {"succeeded": False}}
    await kill(executor_agent)
    server.__init__()  # type: ignore[misc] - for the fixture to close.


async def test_a_check_without_an_answer(executor_agent: ExecutorAgent) -> None:
    """It is ended with all that it has started, and what was known of the task is known no more."""
    script = "test -e ready || { touch ready; exit 0; }; sleep 60 & echo $! > child; wait"
    check = {"type": "COMMAND", "command": {"command": {"value": script}}, **SOON, "timeout_seconds": 2}
    executor = await executor_agent.run("sleep 60", check=check)
    await executor_agent.update("TASK_RUNNING")
    status = await executor_agent.update("TASK_RUNNING")
    assert status["check_status"] == {"type": "COMMAND", "command": {}}
    await kill(executor_agent)
    assert "COMMAND check timed out after 2 s" in executor.stream("stderr")


async def test_a_task_that_is_healthy_and_is_not(executor_agent: ExecutorAgent, server: Server) -> None:
    """Every failure is told, the first success, and the one after a failure; and the last failure is the task's end."""
    check = {"type": "HTTP", "http": {"port": server.port, "path": "/old"}, "consecutive_failures": 2, **SOON}
    executor_agent.capabilities = ["TASK_KILLING_STATE"]
    executor = await executor_agent.run("sleep 60", health_check=check)
    status = await executor_agent.update("TASK_RUNNING")
    assert (status["healthy"], status["reason"]) == (True, HEALTH)
    assert server.paths[:2] == ["/old", "/new"], "a redirection is followed"
    server.status = 500
    for _ in range(2):
        status = await executor_agent.update("TASK_RUNNING")
        assert (status["healthy"], status["reason"]) == (False, HEALTH)
    await executor_agent.update("TASK_KILLING")
    status = await executor_agent.update("TASK_KILLED")
    assert (status["healthy"], status["message"]) == (False, "Command terminated with signal Terminated")
    assert await executor.wait() == 0


async def test_health_comes_back(executor_agent: ExecutorAgent) -> None:
    """Told as often as it changes."""
    script = "test -e odd && rm odd || { touch odd; exit 1; }"
    check = {"type": "COMMAND", "command": {"value": script}, "consecutive_failures": 3, **SOON}
    await executor_agent.run("sleep 60", health_check=check)
    told = [(await executor_agent.update("TASK_RUNNING")).get("healthy") for _ in range(6)]
    assert told[-4:] in ([True, False, True, False], [False, True, False, True])
    await kill(executor_agent)


async def test_a_start_may_take_its_time(executor_agent: ExecutorAgent, server: Server) -> None:
    """Failures in it do not count, until the first success; then they do, although it is not over."""
    server.status = 500
    check = {"type": "HTTP", "http": {"port": server.port}, **SOON, "grace_period_seconds": 600}
    await executor_agent.run("sleep 60", health_check={**check, "consecutive_failures": 1})
    await asyncio.to_thread(server.asked, 5)
    server.status = 204
    status = await executor_agent.update("TASK_RUNNING")
    assert status["healthy"] is True
    server.status = 500
    status = await executor_agent.update("TASK_RUNNING")
    assert status["healthy"] is False
    assert (await executor_agent.update("TASK_KILLED"))["healthy"] is False


@pytest.mark.parametrize(("value", "healthy"), [("true", True), ("kill -9 $$", False), ("sleep 60", False)])
@pytest.mark.parametrize("shell", [True, False])
async def test_health_by_a_command(
    executor_agent: ExecutorAgent, rootfs: Path, value: str, healthy: bool, shell: bool
) -> None:
    """It sees what the task sees, and what it is told. A signal, or no answer, is a failure."""
    script = f"test $MESOS_SANDBOX = /mnt/mesos/sandbox && test -x /bin/busybox && test $OWN = 1 && {value}"
    environment = {"variables": [{"name": "OWN", "value": "1"}]}
    executed = {"value": script} if shell else {"shell": False, "value": "/bin/sh", "arguments": ["sh", "-c", script]}
    check = {"type": "COMMAND", "command": {**executed, "environment": environment}, "consecutive_failures": 1}
    timeout = {"timeout_seconds": 0.3} if value == "sleep 60" else {}
    await executor_agent.run("sleep 60", executor={"rootfs": rootfs}, health_check={**check, **SOON, **timeout})
    status = await executor_agent.update("TASK_RUNNING")
    assert status["healthy"] is healthy
    if healthy:
        await kill(executor_agent)
    else:
        await executor_agent.update("TASK_KILLED")


async def test_nothing_is_checked_while_a_task_is_killed(executor_agent: ExecutorAgent) -> None:
    """Though it takes its time, and is not healthy any more."""
    executor_agent.capabilities = ["TASK_KILLING_STATE"]
    check = {"type": "COMMAND", "command": {"value": "test ! -e ending"}, **SOON, "consecutive_failures": 1}
    script = "trap 'touch ending; sleep 0.3; exit 0' TERM; sleep 60 & wait"
    await executor_agent.run(script, health_check=check)
    assert (await executor_agent.update("TASK_RUNNING"))["healthy"] is True
    await executor_agent.send("KILL", task_id={"value": EXECUTOR}, kill_policy={"grace_period": seconds(60)})
    await executor_agent.update("TASK_KILLING")
    assert "healthy" not in await executor_agent.update("TASK_KILLED")


async def test_health_by_https(executor_agent: ExecutorAgent, secure_server: Server) -> None:
    """A task is not asked for a certificate of 127.0.0.1. The control is HTTP without encryption."""
    check = {"type": "HTTP", "http": {"port": secure_server.port, "scheme": "https"}, **SOON}
    await executor_agent.run("sleep 60", health_check=check)
    assert (await executor_agent.update("TASK_RUNNING"))["healthy"] is True
    await kill(executor_agent)
    check["http"] = {"port": secure_server.port}
    await executor_agent.run("sleep 60", health_check={**check, "consecutive_failures": 1})
    assert (await executor_agent.update("TASK_RUNNING"))["healthy"] is False
    await executor_agent.update("TASK_KILLED")


@pytest.mark.parametrize("kind", ["http", "https", "tcp"])
async def test_health_of_a_task_in_an_image(
    executor_agent: ExecutorAgent, server: Server, secure_server: Server, rootfs: Path, kind: str
) -> None:
    """There is nothing in it by which it could be asked."""
    port = secure_server.port if kind == "https" else server.port
    how = {"type": "TCP", "tcp": {"port": port}}
    if kind != "tcp":
        how = {"type": "HTTP", "http": {"port": port, "scheme": kind}}
    await executor_agent.run("sleep 60", health_check={**how, **SOON}, executor={"rootfs": rootfs, "user": "app"})
    assert (await executor_agent.update("TASK_RUNNING"))["healthy"] is True
    await kill(executor_agent)


@pytest.mark.parametrize("kind", ["http", "tcp"])
@pytest.mark.parametrize(("protocol", "address"), [("IPv4", "127.0.0.1"), ("IPv6", "::1")])
async def test_health_by_a_protocol(executor_agent: ExecutorAgent, kind: str, protocol: str, address: str) -> None:
    serving = Server(family=address)
    check = {"type": kind.upper(), kind: {"port": serving.port, "protocol": protocol}, **SOON}
    try:
        await executor_agent.run("sleep 60", health_check=check)
        assert (await executor_agent.update("TASK_RUNNING"))["healthy"] is True
        await kill(executor_agent)
    finally:
        await asyncio.to_thread(serving.close)


async def test_both_kinds_of_checks(executor_agent: ExecutorAgent, server: Server) -> None:
    """An update of one has what is known by the other."""
    http = {"type": "HTTP", "http": {"port": server.port}, **SOON}
    await executor_agent.run("sleep 60", check={**http, "delay_seconds": 0.2}, health_check=http)
    assert (await executor_agent.update("TASK_RUNNING"))["healthy"] is True
    status = await executor_agent.update("TASK_RUNNING")
    assert (status["healthy"], status["check_status"]["http"]["status_code"]) == (True, 200)
    await kill(executor_agent)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ({"type": "HTTP"}, "it needs a type"),
        ({"type": "COMMAND", "command": {"command": {}}}, "its command has no value"),
        ({"type": "HTTP", "http": {"port": 1, "scheme": "ftp"}}, "its scheme 'ftp'"),
        ({"type": "HTTP", "http": {"port": 1, "path": "x"}}, "its path 'x'"),
        ({"type": "TCP", "tcp": {"port": 1}, "delay_seconds": -1}, "its delay_seconds is negative"),
        (
            {"type": "COMMAND", "command": TRUE | {"command": TRUE}, "interval_seconds": -1},
            "its interval_seconds is neg",
        ),
    ],
)
@pytest.mark.parametrize("name", ["check", "health_check"])
async def test_checks_that_are_none(executor_agent: ExecutorAgent, name: str, check: Json, reason: str) -> None:
    await executor_agent.executor()
    await executor_agent.subscribed()
    await executor_agent.send("LAUNCH", task=task_info("true", **{name: check}))
    await executor_agent.update("TASK_STARTING")
    status = await executor_agent.update("TASK_FAILED")
    assert f"the {name.replace('_', ' ')} of the task is invalid: {reason}" in status["message"]
