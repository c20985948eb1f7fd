"""The Docker executor: tasks that are containers of a real daemon, against an agent that says what a test wants."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesocosm.docker.orders import Orders
from tests import rootfs
from tests.docker_daemon import IMAGE, Docker, docker
from tests.executor_agent import EXECUTOR, ExecutorAgent, Json, seconds, task_info
from tests.launching import Started

pytestmark = pytest.mark.kernel
SOON = {"delay_seconds": 0, "interval_seconds": 0.05, "timeout_seconds": 20, "grace_period_seconds": 0}
HEALTH = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
ENDLESS = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.1; done"


class DockerTask:
    """One task, whose container has a name of the test's."""

    def __init__(self, agent: ExecutorAgent, docker: Docker, name: str) -> None:
        self.agent = agent
        self.docker = docker
        self.name = name
        self.program = "docker"
        self.stop_timeout = 0.0

    async def executor(self, script: str, *options: str, **variables: str) -> Started:
        """An executor that has not subscribed yet. It isolates nothing, as that of a real agent."""
        self.agent.launch.containerizer("", launcher="posix")
        made = (
            "--name",
            self.name,
            "--pull=never",
            "--entrypoint=/bin/sh",
            *options,
            IMAGE,
            "-c",
            script,
        )
        orders = Orders(self.program, str(self.docker.socket), self.name, made, variables, self.stop_timeout)
        environment = {"PATH": os.environ["PATH"], **orders.environment()}
        return await self.agent.executor("docker-executor", isolation="", environment=environment)

    async def launch(
        self,
        script: str,
        *options: str,
        task: Json | None = None,
        container: Json | None = None,
        **variables: str,
    ) -> Started:
        """One that has been given the task."""
        started = await self.executor(script, *options, **variables)
        await self.agent.subscribed()
        asked = {"type": "DOCKER", "docker": {"image": IMAGE}, **(container or {})}
        await self.agent.send("LAUNCH", task=task_info(script, container=asked, **(task or {})))
        await self.agent.update("TASK_STARTING")
        return started

    async def run(self, script: str, *options: str, **task: Any) -> Started:
        """One whose task runs."""
        started = await self.launch(script, *options, task=task)
        await self.agent.update("TASK_RUNNING")
        return started

    async def kill(self, **policy: Any) -> None:
        await self.agent.send("KILL", task_id={"value": EXECUTOR}, **policy)

    async def end(self) -> None:
        """Ends it at once."""
        await self.kill(kill_policy={"grace_period": seconds(0)})
        assert (await self.agent.end())["state"] == "TASK_KILLED"


def client(directory: Path, script: str) -> str:
    """A client of Docker that does something else, or something more."""
    file = directory / "docker"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def task(executor_agent: ExecutorAgent, shared_docker: Docker, unique_name: str) -> Iterator[DockerTask]:
    yield from made_task(executor_agent, shared_docker, unique_name)


def made_task(agent: ExecutorAgent, daemon: Docker, name: str) -> Iterator[DockerTask]:
    """A task whose container the daemon does not have any more afterwards."""
    yield DockerTask(agent, daemon, name)
    if name in daemon.names():
        daemon("rm", "--force", "--volumes", name)


@pytest.mark.parametrize(
    ("script", "state", "status"),
    [
        ("echo out $OWN; echo err >&2", "TASK_FINISHED", 0),
        ("exit 3", "TASK_FAILED", 3),
        ("kill -KILL $$; sleep 60 & kill -TERM $!; wait $!", "TASK_FAILED", 143),
    ],
)
async def test_a_task_ends_as_its_container(task: DockerTask, script: str, state: str, status: int) -> None:
    """It is said to run first, with all that Docker says of it, however soon it ends."""
    executor = await task.launch(script, OWN="1")
    running = await task.agent.update("TASK_RUNNING")
    (described,) = json.loads(base64.b64decode(running["data"]))
    assert described["Name"] == f"/{task.name}"
    ended = await task.agent.update(state)
    assert ended["message"] == f"Container exited with status {status}"
    assert await executor.wait() == 0
    if status == 0:
        assert (executor.stream(), executor.stream("stderr")) == ("out 1\n", "err\n")
    assert task.name in task.docker.names(), "whoever has named it removes it"


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--entrypoint=/nonesuch", "no such file or directory"),
        ("--memory=1b", "inimum memory limit"),
    ],
)
async def test_a_container_that_cannot_be_made_or_started(task: DockerTask, option: str, reason: str) -> None:
    executor = await task.launch("true", option)
    failed = await task.agent.update("TASK_FAILED")
    assert failed["message"].startswith("Failed to run docker container: ")
    assert reason in failed["message"]
    assert "\n" not in failed["message"]
    assert await executor.wait() == 0


async def test_an_executor_without_orders(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.executor("docker-executor")
    assert await executor.wait() == 1
    assert "MESOCOSM_DOCKER_ORDERS has no orders" in executor.stream("stderr")


@pytest.mark.parametrize("knows", [True, False])
async def test_a_kill(task: DockerTask, knows: bool) -> None:
    """What ends by itself after SIGTERM was killed, also with the status 0, and is not said to run again."""
    task.agent.capabilities = ["TASK_KILLING_STATE"] if knows else []
    executor = await task.run(ENDLESS)
    await task.kill(kill_policy={"grace_period": seconds(60)})
    if knows:
        await task.agent.update("TASK_KILLING")
    killed = await task.agent.update("TASK_KILLED")
    assert killed["message"] == "Container exited with status 0"
    assert await executor.wait() == 0


@pytest.mark.parametrize("of", ["the task", "the kill", "a later kill"])
async def test_a_kill_is_escalated(task: DockerTask, of: str) -> None:
    """After the time that the kill or the task gives for it; a later kill can only make that less."""
    soon, late = {"grace_period": seconds(0)}, {"grace_period": seconds(600)}
    executor = await task.run(STUBBORN, kill_policy=soon if of == "the task" else late)
    if of == "a later kill":
        await task.kill()
    await task.kill(**({} if of == "the task" else {"kill_policy": soon}))
    killed = await task.agent.update("TASK_KILLED")
    assert killed["message"] == "Container exited with status 137"
    assert await executor.wait() == 0


@pytest.mark.parametrize(("flag", "seconds"), [(0.0, 5), (7.0, 7)])
async def test_a_task_without_a_policy(task: DockerTask, run_directory: Path, flag: float, seconds: int) -> None:
    """It has the time of a shutdown, or that of `--docker_stop_timeout`."""
    task.program, task.stop_timeout = (
        client(run_directory, f'echo "$*" >> {run_directory}/calls\nexec docker "$@"'),
        flag,
    )
    executor = await task.run(ENDLESS)
    await task.kill()
    await task.agent.update("TASK_KILLED")
    assert await executor.wait() == 0
    assert f"stop --time={seconds} {task.name}\n" in (run_directory / "calls").read_text()


async def test_a_kill_before_there_is_a_container(task: DockerTask, run_directory: Path) -> None:
    """Docker hangs where it is to make one. There is no container then, and no TASK_RUNNING."""
    task.program = client(run_directory, "exec sleep 600")
    task.agent.capabilities = ["TASK_KILLING_STATE"]
    executor = await task.launch("true")
    await task.kill()
    await task.agent.update("TASK_KILLING")
    killed = await task.agent.update("TASK_KILLED")
    assert killed["message"] == "Container was not started"
    assert await executor.wait() == 0


async def test_a_kill_that_docker_does_not_do(task: DockerTask, run_directory: Path) -> None:
    """The container ends all the same, and so does the task."""
    task.program = client(run_directory, '[ "$3" != stop ] || exit 1; exec docker "$@"')
    executor = await task.run(STUBBORN)
    await task.kill()
    killed = await task.agent.update("TASK_KILLED")
    assert killed["message"] == "Container exited with status 137"
    assert "docker stop failed: exit status 1" in executor.stream("stderr")
    assert await executor.wait() == 0


async def test_a_task_has_only_so_much_time(task: DockerTask) -> None:
    executor = await task.run(STUBBORN, max_completion_time=seconds(0.2))
    failed = await task.agent.end()
    assert (failed["state"], failed["reason"]) == ("TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED")
    assert await executor.wait() == 0


async def test_a_shutdown_and_a_second_task(task: DockerTask) -> None:
    executor = await task.run(ENDLESS)
    await task.agent.send("LAUNCH", task=task_info("true", "task-2"))
    assert "multiple tasks" in (await task.agent.update("TASK_FAILED"))["message"]
    await task.agent.send("SHUTDOWN")
    await task.agent.update("TASK_KILLED")
    assert await executor.wait() == 0


async def test_a_task_outlives_its_agent(task: DockerTask) -> None:
    """It is told again of what nobody has acknowledged, and what it is told later counts."""
    executor = await task.run(ENDLESS)
    await task.agent.stop()
    await task.agent.start()
    await task.agent.subscribed()
    await task.end()
    assert await executor.wait() == 0


async def test_a_container_whose_client_is_killed_ends_too(task: DockerTask) -> None:
    """Nobody would see its output, nor its end."""
    executor = await task.run(STUBBORN)
    (client,) = _clients(task.name)
    os.kill(client, signal.SIGKILL)
    failed = await task.agent.update("TASK_FAILED")
    assert "client ended before it, with signal 9" in failed["message"]
    assert await executor.wait() == 0
    assert task.docker("inspect", "--format={{.State.Running}}", task.name) == "false\n"


def _clients(name: str) -> list[int]:
    """The processes of Docker's client that are attached to a container."""
    wanted = ["start", "--attach", name]
    lines = {path.parent.name: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()}
    return [int(pid) for pid, line in lines.items() if line.decode(errors="replace").split("\0")[-4:-1] == wanted]


# Checks.


def health(kind: str, what: Json, **more: Any) -> Json:
    return {"health_check": {"type": kind, kind.lower(): what, **SOON, **more}}


async def test_a_command_checks_in_the_container(task: DockerTask) -> None:
    """With its variables and those of the check, by its files, and with any quotes."""
    value = 'test "$OWN-$MORE" = "a \'b\'-\\"c\\"" && test -e /ready'
    command = {"value": value, "environment": {"variables": [{"name": "MORE", "value": '"c"'}]}}
    executor = await task.launch(f"touch /ready; {ENDLESS}", task=health("COMMAND", command), OWN="a 'b'")
    await task.agent.update("TASK_RUNNING")
    status = await task.agent.update("TASK_RUNNING")
    assert (status["reason"], status["healthy"]) == (HEALTH, True)
    await task.end()
    assert await executor.wait() == 0
    assert not Path("/ready").exists()


async def test_the_health_of_a_task_changes_until_it_is_killed_for_it(task: DockerTask) -> None:
    command = {"shell": False, "value": "test", "arguments": ["-e", "/healthy"]}
    script = f"touch /healthy; {ENDLESS}"
    executor = await task.run(
        script, **health("COMMAND", command, consecutive_failures=2), kill_policy={"grace_period": seconds(0)}
    )
    assert (await task.agent.update("TASK_RUNNING"))["healthy"]
    for change, healthy in (("rm", False), ("touch", True), ("rm", False)):
        task.docker("exec", task.name, change, "/healthy")
        while (status := await task.agent.update())["healthy"] is not healthy:
            pass
    while (status := await task.agent.update())["state"] == "TASK_RUNNING":
        assert not status["healthy"]
    assert (status["state"], status["healthy"]) == ("TASK_KILLED", False)
    assert await executor.wait() == 0


async def test_the_answers_of_a_check_are_told(task: DockerTask) -> None:
    check = {"type": "COMMAND", "command": {"command": {"value": "exit 4"}}, **SOON}
    executor = await task.launch(ENDLESS, task={"check": check})
    for answer in ({}, {"exit_code": 4}):
        assert (await task.agent.update("TASK_RUNNING"))["check_status"]["command"] == answer
    await task.end()
    assert await executor.wait() == 0


async def test_a_check_without_an_answer_leaves_nothing_in_the_container(task: DockerTask) -> None:
    """Docker ends nothing that it has executed, whoever has asked for it."""
    command = {"value": "sleep 4321 & sleep 4321"}
    executor = await task.run(
        ENDLESS, **health("COMMAND", command, timeout_seconds=0.5, interval_seconds=600, consecutive_failures=9)
    )
    assert not (await task.agent.update("TASK_RUNNING"))["healthy"]
    assert "sleep 4321" not in task.docker("top", task.name)
    await task.end()
    assert await executor.wait() == 0


# In a network of Docker's.

SUBNETS = ("172.29.84.0/24", "fd00:6d65:736f::/64")
HTTP = "exec busybox httpd -f -p [::]:8480 -h /"
HTTPS = """
import http.server, socket, ssl, sys
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
server = Server(("::", 8480), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def networked() -> Iterator[Docker]:
    """A daemon with the network `usernet`, which is in a namespace of its own."""
    if reason := rootfs.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="docker-") as name, docker(Path(name), bridge=True) as daemon:
        daemon.import_image(rootfs.make(Path(name, "rootfs")))
        daemon("network", "create", "--ipv6", *(f"--subnet={subnet}" for subnet in SUBNETS), "usernet")
        yield daemon


@pytest.fixture
def networked_task(executor_agent: ExecutorAgent, networked: Docker, unique_name: str) -> Iterator[DockerTask]:
    yield from made_task(executor_agent, networked, unique_name)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("HTTP", {"path": "/bin/sh"}),
        ("HTTP", {"scheme": "https", "protocol": "IPv6"}),
        ("TCP", {"protocol": "IPv6"}),
    ],
    ids=["http", "https", "tcp"],
)
async def test_a_task_in_a_network_of_its_own(
    networked_task: DockerTask, request: pytest.FixtureRequest, kind: str, what: Json
) -> None:
    """Its addresses are told with what it asked for, and it is asked from there: from the host, nobody would answer."""
    task, server, shown = networked_task, HTTP, []
    if "scheme" in what:
        certificate = request.getfixturevalue("certificate")
        server = f"exec {os.path.realpath(sys.executable)} -c '{HTTPS}' {certificate}"
        shown = [
            certificate,
            sys.base_prefix,
            "/usr/lib",
            *(each for each in ("/lib", "/lib64") if Path(each).exists()),
        ]
    asked = {"network_infos": [{"name": "usernet", "labels": {"labels": [{"key": "of", "value": "the task"}]}}]}
    options = ("--net=usernet", *(f"--volume={path}:{path}:ro" for path in shown))
    executor = await task.launch(
        server, *options, task=health(kind, {"port": 8480, **what}, consecutive_failures=100_000), container=asked
    )
    running = await task.agent.update("TASK_RUNNING")
    (info,) = running["container_status"]["network_infos"]
    addresses = info["ip_addresses"]
    assert info == {**asked["network_infos"][0], "ip_addresses": addresses}
    assert [each["protocol"] for each in addresses] == ["IPv4", "IPv6"]
    assert all(
        ipaddress.ip_address(each["ip_address"]) in ipaddress.ip_network(subnet)
        for each, subnet in zip(addresses, SUBNETS, strict=True)
    )
    while not (status := await task.agent.update("TASK_RUNNING"))["healthy"]:
        pass
    assert status["reason"] == HEALTH
    assert status["container_status"] == running["container_status"]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", 8480)
    await task.end()
    assert await executor.wait() == 0
