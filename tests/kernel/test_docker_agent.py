"""An agent with containers of Docker beside those of Mesos: standalone ones, and those of executors."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import mesocosm
from mesocosm.api import v1
from mesocosm.flags import Flags
from tests.agent_process import AgentProcess
from tests.docker_daemon import IMAGE, Docker
from tests.task_agent import EXECUTOR, Master, command_task, executor_info, running_agent, task_info

pytestmark = pytest.mark.kernel

DOCKER = {"type": "DOCKER", "docker": {"image": IMAGE}}


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


@pytest.fixture(scope="session")
def agent_image(shared_docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with Python, Mesocosm, and the client of Docker, such as an agent runs from."""
    root = tmp_path_factory.mktemp("agent")
    client = shutil.which("docker")
    assert client is not None
    library = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns("test", "__pycache__", "site-packages", "idlelib", "*.a", "config-*")
    shutil.copytree(library, root / library.relative_to("/"), ignore=ignored, symlinks=True)
    package = Path(mesocosm.__file__).parent
    shutil.copytree(package, root / library.relative_to("/") / "mesocosm", ignore=ignored)
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    for program in (python, Path(client).resolve()):
        copy(program, root)
    for module in library.joinpath("lib-dynload").glob("*.so"):
        for needed in libraries(module):
            copy(needed, root)
    for program in (python, Path(client).resolve()):
        for needed in libraries(program):
            copy(needed, root)
    for directory, target in (("usr/bin/python3", python), ("usr/bin/docker", client)):
        link = root / directory
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(target)
    name = "mesocosm-agent"
    shared_docker.import_image(root, name)
    return name


def libraries(program: Path) -> list[Path]:
    """Those that it is linked with (ldd(1))."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(word) for line in listed.splitlines() for word in line.split() if word.startswith("/")]


def copy(file: Path, root: Path) -> None:
    target = root / file.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


@pytest.mark.slow
async def test_an_executor_in_a_container_of_its_own(flags: Flags, shared_docker: Docker, agent_image: str) -> None:
    """Where the agent is in a container itself, executors are in others, and go on without it."""
    given = options(shared_docker, f"--docker_mesos_image={agent_image}")
    container = v1.ContainerInfo(type=v1.ContainerInfo.DOCKER, docker=v1.ContainerInfo.DockerInfo(image=IMAGE))
    async with running_agent(flags, *given) as master:
        master.run(
            command_task("task", "echo out; while [ ! -e end ]; do sleep 0.1; done; exit 3", container=container)
        )
        await master.update("task", v1.TASK_RUNNING)
        executor = master.executor("task")
        name = f"mesos-{executor.container_id.value}"
        assert {name, f"{name}.executor"} <= shared_docker.names()
        assert (executor.directory / "stdout").read_text() == "out\n"
        shared_docker("exec", name, "touch", "/mnt/mesos/sandbox/end", "/end")
        status = await master.update("task", v1.TASK_FAILED)
        assert "3" in status.message
        await master.gone()
