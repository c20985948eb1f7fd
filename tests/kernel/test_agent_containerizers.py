"""An agent with several containerizers: containers of Mesos and of Docker beside each other, in every answer."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import v1
from mesocosm.flags import Flags
from mesocosm.hooks import ENTRY_POINTS
from tests.agent_process import ISOLATION, AgentProcess, identity
from tests.docker_daemon import IMAGE, Docker
from tests.plugins import install
from tests.task_agent import command_task, executor_info, running_agent, scalars, task_info

pytestmark = pytest.mark.kernel

BOTH = "--containerizers=mesos,docker"
IN_DOCKER: Mapping[str, Any] = {"type": "DOCKER", "docker": {"image": IMAGE, "network": "NONE"}}
WAITING = 'mkfifo "$MESOS_SANDBOX/go"; echo ready; read status < "$MESOS_SANDBOX/go"; exit $status'
"""Ends with the status that somebody writes into its sandbox."""
AMOUNTS = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
    {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
]


@pytest.fixture(autouse=True)
def nothing_is_left(shared_docker: Docker) -> Iterator[None]:
    """Ended containers are kept by Docker for the flag docker_remove_delay."""
    yield
    if names := shared_docker.names():
        shared_docker("rm", "--force", *names)


def of(shared_docker: Docker) -> str:
    """The flag that tells which daemon is asked."""
    return f"--docker_socket={shared_docker.socket}"


def test_containers_of_both_kinds(agent: AgentProcess, shared_docker: Docker) -> None:
    flags = (BOTH, of(shared_docker))
    agent.start(*flags)
    assert agent.launch("m", WAITING, resources=AMOUNTS).status == 200
    launched = agent.launch("d", WAITING, resources=AMOUNTS, container=IN_DOCKER)
    assert launched.status == 200, launched.text
    assert agent.launch("d", "true").status == 202, "whoever would launch it now"
    assert agent.launch("kid", "sleep 1000", nested_in="m").status == 200
    refused = agent.launch("kid", "sleep 1000", nested_in="d")
    assert (refused.status, refused.text) == (400, "d.kid: Docker nests no containers")
    assert agent.containers().keys() == {"m", "d", "kid"}
    for name in ("m", "d"):
        shown = agent.containers()[name]
        assert shown["container_status"]["container_id"]["value"] == name
        assert shown["container_status"]["executor_pid"] > 1
        assert shown["resource_statistics"]["mem_limit_bytes"] == 64 << 20
        assert shown["resource_statistics"]["mem_total_bytes"] > 0
    assert {each["container_id"] for each in agent.get("/containers?show_standalone=true").json} == {"m", "d"}
    assert len(agent.get("/monitor/statistics").json) == 2
    assert agent.get("/metrics/snapshot").json["containerizer/docker/image_pull_ms"] > 0
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    agent.start(*flags)
    assert agent.recovered == 3
    for name, status in (("m", 3), ("d", 4)):
        (agent.sandbox(name) / "go").write_text(f"{status}\n")
        assert agent.wait_for(name)["exit_status"] == status << 8
        assert (agent.sandbox(name) / "stdout").read_text() == "ready\n"
        assert agent.get(f"/files/read?path=/containers/{name}/stdout&offset=0").json["data"] == "ready\n"
    for name in ("m", "d"):
        assert agent.call("REMOVE_CONTAINER", container_id=identity(name)).status == 200
        assert agent.call("WAIT_CONTAINER", container_id=identity(name)).status == 404
        assert not agent.sandbox(name).exists()
    assert agent.launch("m", "sleep 1000").status == 200
    assert agent.launch("d", "sleep 1000", container=IN_DOCKER).status == 200
    assert agent.stop(signal.SIGUSR1) == 0
    assert shared_docker("ps", "--quiet") == "", "none runs"


def test_docker_alone(agent: AgentProcess, shared_docker: Docker) -> None:
    agent.start("--containerizers=docker", of(shared_docker))
    answer = agent.launch("no", "true")
    assert (answer.status, answer.text) == (400, "The provided ContainerInfo is not supported")
    assert agent.launch("yes", "exit 3", container=IN_DOCKER).status == 200
    assert agent.wait_for("yes")["exit_status"] == 3 << 8


HOOK = """
from dataclasses import replace
from mesocosm.hooks import Hook


class Deciding(Hook):
    async def pre_launch_docker(self, container_id, config, executor, task):
        if any(label.key == "forbidden" for label in task.labels.labels):
            raise ValueError("not with that label")
        (config.directory / "foo").touch()
        environment = {**config.environment, "HOOKTEST_TASK": "foo"}
        of_executor = {**config.program_environment, "HOOKTEST_EXECUTOR": "bar"}
        return replace(config, environment=environment, program_environment=of_executor)

    async def post_fetch(self, container_id, sandbox):
        (sandbox / "fetched").unlink()
"""


def task(task_id: str, command: v1.CommandInfo, container: v1.ContainerInfo, **fields: Any) -> v1.TaskInfo:
    """One that brings a command."""
    made = command_task(task_id, "", container=container, **fields)
    made.command.CopyFrom(command)
    return made


async def test_hooks_of_other_packages(
    flags: Flags, shared_docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see to variables, of a task and not of its executor, and to files; and they refuse a task for its label."""
    install(tmp_path, monkeypatch, ENTRY_POINTS, HOOK, deciding="Deciding")
    container = v1.ContainerInfo(type=v1.ContainerInfo.DOCKER)
    container.docker.image = IMAGE
    container.docker.network = v1.ContainerInfo.DockerInfo.NONE
    (tmp_path / "fetched").touch()
    checks = ('"$HOOKTEST_TASK" = foo', '-z "$HOOKTEST_EXECUTOR"', "-f foo", "! -e fetched")
    script = f'cd "$MESOS_SANDBOX" && test {" -a ".join(checks)}'
    command = v1.CommandInfo(value=script, uris=[v1.CommandInfo.URI(value=str(tmp_path / "fetched"))])
    async with running_agent(flags, BOTH, of(shared_docker), "--hooks=deciding", isolation=ISOLATION) as master:
        master.run(task("sees", command, container))
        await master.update("sees", v1.TASK_FINISHED)
        assert master.states("sees") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        forbidden = v1.Labels(labels=[v1.Label(key="forbidden")])
        master.run(task("refused", command, container, labels=forbidden))
        status = await master.update("refused", v1.TASK_FAILED)
        assert status.reason == v1.TaskStatus.REASON_CONTAINER_LAUNCH_FAILED
        assert "not with that label" in status.message


@pytest.mark.parametrize(("kind", "of_executor"), [("mesos", 32 << 20), ("docker", 0)])
async def test_the_same_task_by_either(flags: Flags, shared_docker: Docker, kind: str, of_executor: int) -> None:
    """The executor is in the container of the one, and outside of that of the other."""
    container = v1.ContainerInfo(type=v1.ContainerInfo.Type.Value(kind.upper()))
    if kind == "docker":
        container.docker.image = IMAGE
    async with running_agent(flags, BOTH, of(shared_docker), isolation=ISOLATION) as master:
        master.run(command_task("t", WAITING, container=container, resources=scalars(cpus=0.5, mem=64)))
        running = await master.update("t", v1.TASK_RUNNING)
        (observed,) = await master.agent.observe()
        assert observed.statistics is not None
        assert observed.statistics.mem_limit_bytes == (64 << 20) + of_executor
        assert observed.container_id.value == running.container_status.container_id.value
        (sandbox,) = flags.work_dir.glob("slaves/*/frameworks/*/executors/t/runs/latest")
        await asyncio.to_thread((sandbox / "go").write_text, "3\n")
        await master.update("t", v1.TASK_FAILED)
        assert master.states("t") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
        assert "ready" in (sandbox / "stdout").read_text()


async def test_a_custom_executor_in_docker_sees_the_socket_of_the_agent(flags: Flags, shared_docker: Docker) -> None:
    """And of a task, which has no business with it, only the executor does."""
    container = v1.ContainerInfo(type=v1.ContainerInfo.DOCKER)
    container.docker.image = IMAGE
    see = v1.CommandInfo(value='test -S "$MESOS_DOMAIN_SOCKET" && echo there')
    executor = executor_info("seeing", command=see, container=container)
    given = (BOTH, of(shared_docker), "--http_executor_domain_sockets")
    async with running_agent(flags, *given, isolation=ISOLATION) as master:
        master.run(task_info("t", executor))
        await master.update("t", v1.TASK_FAILED)
        (stdout,) = flags.work_dir.glob("slaves/*/frameworks/*/executors/seeing/runs/latest/stdout")
        assert stdout.read_text() == "there\n"
        master.run(command_task("own", f"! test -e {flags.runtime_dir}", container=container))
        await master.update("own", v1.TASK_FINISHED)


def test_a_docker_that_hangs_keeps_no_other_container_waiting(agent: AgentProcess, shared_docker: Docker) -> None:
    agent.start(BOTH, of(shared_docker))
    assert agent.launch("d", WAITING, container=IN_DOCKER).status == 200
    assert agent.containers()["d"]["resource_statistics"]["mem_total_bytes"] > 0
    shared_docker.send(signal.SIGSTOP)
    try:
        assert agent.launch("m", "exit 3").status == 200
        assert agent.wait_for("m")["exit_status"] == 3 << 8
        assert agent.containers()["d"]["resource_statistics"]["mem_total_bytes"] > 0
    finally:
        shared_docker.send(signal.SIGCONT)
    (agent.sandbox("d") / "go").write_text("4\n")
    assert agent.wait_for("d")["exit_status"] == 4 << 8
