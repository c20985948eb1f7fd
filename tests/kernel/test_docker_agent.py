"""An agent of Docker where there is none, and executors of frameworks in containers of Docker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesocosm.api import v1
from mesocosm.flags import Flags
from tests.agent_process import AgentProcess
from tests.docker_daemon import IMAGE, Docker
from tests.task_agent import EXECUTOR, Master, executor_info, running_agent, task_info

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def _nothing_is_left(shared_docker: Docker) -> Iterator[None]:
    yield
    if left := shared_docker.names():
        shared_docker("rm", "--force", *left)


def test_an_agent_of_docker_alone_ends_without_it(agent: AgentProcess) -> None:
    agent.spawn("--containerizers=docker", "--docker=/nonexistent")
    assert agent.wait() == 125
    assert "--docker: there is no program '/nonexistent'" in agent.log.read_text()


def docker_executor() -> v1.ExecutorInfo:
    """That in shell, in a container of Docker, with the programs of the host."""
    mounted = [
        ("/usr", "/usr"),
        ("/usr/lib", "/lib"),
        ("/usr/lib64", "/lib64"),
        (str(EXECUTOR), "/executor.sh"),
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
    given = ("--containerizers=mesos,docker", f"--docker_socket={shared_docker.socket}", "--docker_remove_delay=0secs")
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
