"""Tasks that ask for a container of the type DOCKER, from their arrival at an agent to what is left of them."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests import rootfs
from tests.docker_agent_image import AGENT_IMAGE, import_agent_image
from tests.docker_daemon import IMAGE, Docker, docker
from tests.podman_service import Podman, podman
from tests.task_agent import Master, command_task, running_agent, scalars

pytestmark = pytest.mark.kernel

ENDLESS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
MESOS = v1.ContainerInfo(type=v1.ContainerInfo.MESOS)
DOCKER = v1.ContainerInfo(type=v1.ContainerInfo.DOCKER, docker=v1.ContainerInfo.DockerInfo(image=IMAGE))


@pytest.fixture(autouse=True)
def _nothing_is_left(shared_docker: Docker) -> Iterator[None]:
    """Of what Docker was asked to make here."""
    yield
    assert shared_docker.names() == set()


@asynccontextmanager
async def agent(flags: Flags, docker: Docker | Podman, *arguments: str, **options: Any) -> AsyncIterator[Master]:
    own = (
        "--containerizers=mesos,docker",
        f"--docker_socket={docker.socket}",
        "--docker_remove_delay=0secs",
        *arguments,
    )
    async with running_agent(flags, *own, **options) as master:
        yield master


def name_of(master: Master, task_id: str) -> str:
    """How Docker calls the container of a task."""
    return f"mesos-{master.executor(task_id).container_id}"


def port_of(master: Master) -> int:
    return master.agent.tasks.registration.address.port


@pytest.mark.parametrize("container", [MESOS, DOCKER], ids=["mesos", "docker"])
async def test_a_command_is_the_same_task_in_either(
    flags: Flags, shared_docker: Docker, container: v1.ContainerInfo
) -> None:
    """Its states, its output, its files, its variables, its resources, and where it is said to be."""
    files = "cd $MESOS_SANDBOX; touch file; env > variables"
    command = v1.CommandInfo(value=f'{files}; echo "$OWN" "$MESOS_ALLOCATION_ROLE"; echo err >&2; exit 3')
    command.environment.variables.add(name="OWN", value="a 'b'")
    task = command_task("t", "", container=container, resources=scalars(cpus=0.1, mem=48))
    task.command.CopyFrom(command)
    async with agent(flags, shared_docker, "--ip6=fd00::1234") as master:
        master.run(task, role="engineering")
        executor = master.executor("t")
        running = await master.update("t", v1.TASK_RUNNING)
        failed = await master.update("t", v1.TASK_FAILED)
        assert failed.message == f"{'Container' if container is DOCKER else 'Command'} exited with status 3"
        assert running.container_status.container_id.value == executor.container_id.value
        (info,) = running.container_status.network_infos
        addresses = {each.protocol: each.ip_address for each in info.ip_addresses}
        assert addresses == {v1.NetworkInfo.IPv4: "127.0.0.1", v1.NetworkInfo.IPv6: "fd00::1234"}
        await master.gone()
        assert master.states("t") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    read = {name: (executor.directory / name).read_text() for name in ("stdout", "stderr", "file", "variables")}
    assert (read["stdout"], read["stderr"], read["file"]) == ("a 'b' engineering\n", "err\n", "")
    if container is DOCKER:
        names = {line.partition("=")[0] for line in read["variables"].splitlines()}
        assert {"MESOS_SANDBOX", "MESOS_CONTAINER_NAME"} <= names
        assert not names & {"MESOS_EXECUTOR_ID", "MESOS_AGENT_ENDPOINT", "MESOCOSM_DOCKER_ORDERS"}
        (described,) = json.loads(running.data)
        assert described["Name"] == f"/mesos-{executor.container_id}"
        assert described["HostConfig"]["Memory"] == 48 << 20, "the executor is not in there"


@pytest.mark.parametrize(
    ("cpus", "mem", "quota", "memory"),
    [(None, None, 20_000, 64 << 20), (0.5, 512, 50_000, 512 << 20), (math.inf, math.inf, 0, 0)],
    ids=["none", "some", "infinite"],
)
async def test_limits_are_those_of_the_task(
    flags: Flags, shared_docker: Docker, cpus: float | None, mem: float | None, quota: int, memory: int
) -> None:
    task = command_task("t", ENDLESS, container=DOCKER, resources=scalars(cpus=0.2, mem=64))
    for name, value in (("cpus", cpus), ("mem", mem)):
        if value is not None:
            task.limits[name].value = value
    async with agent(flags, shared_docker, "--cgroups_enable_cfs") as master:
        master.run(task)
        running = await master.update("t", v1.TASK_RUNNING)
        (described,) = json.loads(running.data)
        asked = described["HostConfig"]
        assert (asked["CpuQuota"], asked["Memory"]) == (quota, memory)
        assert asked["CpuShares"] == int(0.2 * 1024)
        assert asked["MemoryReservation"] == (0 if mem is None else 64 << 20)
        assert (asked["OomScoreAdj"] > 0) == (mem is not None)
        master.kill("t")
        await master.update("t", v1.TASK_KILLED)
        await master.gone()


async def test_an_executor_comes_back_to_the_next_agent(flags: Flags, shared_docker: Docker) -> None:
    """Its task has not noticed, and can be killed."""
    async with agent(flags, shared_docker, destroys=False) as before:
        before.run(command_task("t", ENDLESS, container=DOCKER), checkpoint=True)
        await before.update("t", v1.TASK_RUNNING)
        name = name_of(before, "t")
    async with agent(flags, shared_docker, port=port_of(before)) as master:
        assert name_of(master, "t") == name
        assert shared_docker.names() == {name}
        master.kill("t")
        await master.update("t", v1.TASK_KILLED)
        await master.gone()


async def test_a_task_ends_with_its_executor(flags: Flags, shared_docker: Docker) -> None:
    """Killed with -9, that can do nothing for it any more: the agent ends the container."""
    async with agent(flags, shared_docker) as master:
        master.run(command_task("t", ENDLESS, container=DOCKER))
        await master.update("t", v1.TASK_RUNNING)
        container_id = master.executor("t").container_id
        status = await master.agent.containerizer.status(container_id)
        assert status.executor_pid is not None
        os.kill(status.executor_pid, signal.SIGKILL)
        failed = await master.update("t", v1.TASK_FAILED)
        assert failed.reason == v1.TaskStatus.REASON_EXECUTOR_TERMINATED
        await master.gone()
        assert f"mesos-{container_id}" not in shared_docker.names()


async def test_what_docker_cannot_make_is_a_failed_launch(flags: Flags, shared_docker: Docker) -> None:
    missing = v1.ContainerInfo(
        type=v1.ContainerInfo.DOCKER, docker=v1.ContainerInfo.DockerInfo(image="127.0.0.1:1/nonesuch")
    )
    async with agent(flags, shared_docker) as master:
        master.run(command_task("t", "true", container=missing))
        failed = await master.update("t", v1.TASK_FAILED)
        assert failed.reason == v1.TaskStatus.REASON_CONTAINER_LAUNCH_FAILED
        assert "docker pull failed" in failed.message
        await master.gone()


@pytest.fixture(scope="module")
def agent_image(shared_docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    import_agent_image(shared_docker, tmp_path_factory.mktemp("image") / "root")
    return AGENT_IMAGE


async def test_an_executor_in_a_container_of_its_own(flags: Flags, shared_docker: Docker, agent_image: str) -> None:
    """It outlives its agent, of whose image it is, and asks the task's container from there as any other."""
    own = (f"--docker_mesos_image={agent_image}",)
    task = command_task("t", f"echo out; {ENDLESS}", container=DOCKER)
    task.health_check.CopyFrom(
        v1.HealthCheck(
            type=v1.HealthCheck.COMMAND,
            command=v1.CommandInfo(value="test $MESOS_CONTAINER_NAME"),
            delay_seconds=0,
            grace_period_seconds=0,
        )
    )
    async with agent(flags, shared_docker, *own, destroys=False) as before:
        before.run(task, checkpoint=True)
        await before.heard(internal.StatusUpdateMessage, lambda each: each.update.status.healthy)
        name = name_of(before, "t")
        assert shared_docker.names() == {name, f"{name}.executor"}
        directory = before.executor("t").directory
    async with agent(flags, shared_docker, *own, port=port_of(before)) as master:
        assert shared_docker.names() == {name, f"{name}.executor"}
        master.kill("t")
        killed = await master.update("t", v1.TASK_KILLED)
        assert killed.message == "Container exited with status 0"
        await master.gone()
    assert (directory / "stdout").read_text() == "out\n"


async def test_a_task_ends_with_the_daemon_that_is_killed(flags: Flags, run_directory: Path) -> None:
    """Also its processes, which Docker leaves; and the agent goes on."""
    if reason := rootfs.missing():
        pytest.skip(reason)
    with docker(run_directory / "d") as daemon:
        daemon.import_image(rootfs.make(run_directory / "rootfs"))
        async with agent(flags, daemon) as master:
            master.run(command_task("t", ENDLESS, container=DOCKER))
            await master.update("t", v1.TASK_RUNNING)
            pid = int(daemon("inspect", "--format={{.State.Pid}}", name_of(master, "t")))
            daemon.send(signal.SIGKILL)
            failed = await master.update("t", v1.TASK_FAILED)
            assert "its client ended before it" in failed.message
            assert not Path("/proc", str(pid)).exists()
            master.run(command_task("other", "true"))
            await master.update("other", v1.TASK_FINISHED)
            await master.gone()


@pytest.fixture(scope="module")
def service() -> Iterator[Podman]:
    with podman() as found:
        yield found


async def test_podman_does_it_as_well(flags: Flags, service: Podman) -> None:
    """By its client, also for the agent after that which has launched the task."""
    async with agent(flags, service, "--docker=podman", destroys=False) as before:
        before.run(command_task("t", f"touch $MESOS_SANDBOX/file; {ENDLESS}", container=DOCKER), checkpoint=True)
        await before.update("t", v1.TASK_RUNNING)
        name, directory = name_of(before, "t"), before.executor("t").directory
    async with agent(flags, service, "--docker=podman", port=port_of(before)) as master:
        assert name_of(master, "t") == name
        assert service.names() == {name}
        master.kill("t")
        killed = await master.update("t", v1.TASK_KILLED)
        assert killed.message == "Container exited with status 0"
        await master.gone()
    assert (directory / "file").exists()
    assert service.names() == set()
