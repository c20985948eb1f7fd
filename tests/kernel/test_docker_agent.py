"""An agent with containers of Docker beside those of Mesos: standalone ones, and those of executors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.api import v1
from mesocosm.flags import Flags
from tests.agent_process import AgentProcess
from tests.docker_daemon import IMAGE, Docker
from tests.task_agent import EXECUTOR, Master, executor_info, running_agent, task_info

pytestmark = pytest.mark.kernel

DOCKER = {"type": "DOCKER", "docker": {"image": IMAGE}}


@pytest.fixture(autouse=True)
def _nothing_is_left(shared_docker: Docker) -> Iterator[None]:
    yield
    if left := shared_docker.names():
        shared_docker("rm", "--force", *left)


def options(docker: Docker, *others: str, containerizers: str = "mesos,docker") -> list[str]:
    socket = f"--docker_socket={docker.socket}"
    return [f"--containerizers={containerizers}", socket, "--docker_remove_delay=0secs", *others]


async def test_the_same_command_by_both(agent: AgentProcess, shared_docker: Docker, unique_name: str) -> None:
    """Containers of both are shown, measured, waited for and ended by the same calls, also after kill -9."""
    agent.start(*options(shared_docker))
    names = {f"{unique_name}-mesos": {}, f"{unique_name}-docker": {"container": DOCKER}}
    resources = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]
    for name, fields in names.items():
        assert agent.launch(name, "echo $0; exec sleep 600", resources=resources, **fields).status == 200
    agent.stop(9)
    agent.start(*options(shared_docker))
    assert agent.recovered == 2
    for name, container in agent.containers().items():
        assert name in names
        assert container["resource_statistics"]["mem_limit_bytes"] == 64 << 20
        assert (agent.sandbox(name) / "stdout").read_text().strip() in ("sh", "/bin/sh")
        assert Path("/proc", str(container["container_status"]["executor_pid"])).exists()
        assert agent.call("KILL_CONTAINER", container_id={"value": name}).status == 200
        assert agent.wait_for(name)["exit_status"] in (9, 137 << 8)
        assert agent.call("REMOVE_CONTAINER", container_id={"value": name}).status == 200


async def test_an_agent_of_docker_alone_ends_without_it(agent: AgentProcess, shared_docker: Docker) -> None:
    agent.spawn(*options(shared_docker, "--docker=/nonexistent", containerizers="docker"))
    assert agent.wait() == 125
    assert "--docker: there is no program '/nonexistent'" in agent.log.read_text()


def docker_executor(*volumes: tuple[str, str]) -> v1.ExecutorInfo:
    """That in shell, in a container of Docker, with the programs of the host."""
    mounted = [
        ("/usr", "/usr"),
        ("/usr/lib", "/lib"),
        ("/usr/lib64", "/lib64"),
        (str(EXECUTOR), "/executor.sh"),
        *volumes,
    ]
    container = v1.ContainerInfo(
        type=v1.ContainerInfo.DOCKER,
        docker=v1.ContainerInfo.DockerInfo(image=IMAGE),
        volumes=[v1.Volume(host_path=host, container_path=inside, mode=v1.Volume.RO) for host, inside in mounted],
    )
    command = v1.CommandInfo(shell=False, value="/usr/bin/bash", arguments=["-c", ". /executor.sh"])
    return executor_info(command=command, container=container)


def container_of(master: Master) -> str:
    return f"mesos-{master.executor().container_id.value}"


async def test_a_custom_executor(flags: Flags, shared_docker: Docker) -> None:
    """Also by the next agent (DockerContainerizerTest.DISABLED_ROOT_DOCKER_SlaveRecoveryExecutorContainer)."""
    given = options(shared_docker)
    async with running_agent(flags, *given, destroys=False) as master:
        master.run(task_info("quick", docker_executor()), checkpoint=True)
        await master.update("quick", v1.TASK_FINISHED)
        name, port = container_of(master), master.agent.tasks.registration.address.port
        assert name in shared_docker.names()
    async with running_agent(flags, *given, port=port) as master:
        master.run(task_info("quick-2", docker_executor()), checkpoint=True)
        await master.update("quick-2", v1.TASK_FINISHED)
        assert container_of(master) == name
        await master.agent.containerizer.destroy(master.executor().container_id)
        await master.gone()
