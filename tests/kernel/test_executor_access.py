"""How executors reach the agent, and prove who they are."""

from __future__ import annotations

import platform
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mesocosm.agent.tokens import ExecutorClaims, ExecutorTokens
from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.docker_archive import docker_archive
from tests.task_agent import (
    FRAMEWORK_ID,
    Master,
    command_task,
    executor_info,
    framework_info,
    running_agent,
    scalars,
    task_info,
)

pytestmark = pytest.mark.kernel

SUBSCRIBE = {
    "framework_id": {"value": FRAMEWORK_ID},
    "executor_id": {"value": "shell"},
    "type": "SUBSCRIBE",
    "subscribe": {},
}


async def post(master: Master, path: str, call: Any, token: str | None) -> int:
    """The status of an answer."""
    url = f"http://{master.agent.tasks.registration.address.authority}{path}"
    proof = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=call, headers={"Accept": "application/json", **proof}) as answer,
    ):
        return answer.status


@pytest.fixture
def key(run_directory: Path) -> Path:
    path = run_directory / "key"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    return path


async def test_an_executor_proves_who_it_is(flags: Flags, key: Path) -> None:
    arguments = ("--authenticate_http_executors", f"--jwt_secret_key={key}")
    async with running_agent(flags, *arguments) as master:
        master.run(task_info("any", executor_info(script="sleep 1000")))
        tokens = ExecutorTokens.load(key)
        container_id = master.executor().container_id.value
        own = ExecutorClaims(FRAMEWORK_ID, "shell", container_id)
        forged = ExecutorTokens(bytes(32)).make(own)
        other = tokens.make(ExecutorClaims(FRAMEWORK_ID, "shell", "another"))
        for token, status in ((None, 401), ("nonsense", 401), (forged, 401), (other, 403)):
            assert await post(master, "/api/v1/executor", SUBSCRIBE, token) == status
        nested = {"container_id": {"value": "kid", "parent": {"value": container_id}}}
        launch = {**nested, "command": {"value": "sleep 1000"}}
        call = {"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": launch}
        assert await post(master, "/api/v1", call, other) == 403
        assert await post(master, "/api/v1", {"type": "GET_FLAGS"}, tokens.make(own)) == 403


async def test_an_executor_launches_as_whom_its_framework_may_run_tasks(flags: Flags, key: Path) -> None:
    allowed = '{"permissive": false, "run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["nobody"]}}]}'
    arguments = ("--authenticate_http_executors", f"--jwt_secret_key={key}", f"--acls={allowed}")
    async with running_agent(flags, *arguments) as master:
        master.run(task_info("any", executor_info(script="sleep 1000")), user="nobody")
        container_id = master.executor().container_id.value
        token = ExecutorTokens.load(key).make(ExecutorClaims(FRAMEWORK_ID, "shell", container_id))
        launch = {"container_id": {"value": "kid", "parent": {"value": container_id}}}
        for user, refused in (("root", True), ("0", True), ("nobody", False)):
            command = {"value": "true", "user": user}
            call = {"type": "LAUNCH_CONTAINER", "launch_container": {**launch, "command": command}}
            assert (await post(master, "/api/v1", call, token) == 403) is refused


async def test_executors_that_are_built_in_prove_it(flags: Flags, key: Path) -> None:
    allowed = '{"permissive": false, "run_tasks": [{"principals": {"type": "ANY"}, "users": {"type": "ANY"}}]}'
    arguments = ("--authenticate_http_executors", f"--jwt_secret_key={key}", f"--acls={allowed}")
    async with running_agent(flags, *arguments) as master:
        master.run(command_task("alone", "true"))
        await master.update("alone", v1.TASK_FINISHED)
        info = v1.ExecutorInfo(
            type=v1.ExecutorInfo.DEFAULT,
            executor_id=v1.ExecutorID(value="pod"),
            resources=scalars(cpus=0.1, mem=32),
        )
        group = v1.TaskGroupInfo(tasks=[command_task("grouped", "true")])
        message = internal.RunTaskGroupMessage(
            framework=framework_info(), executor=info, task_group=group, launch_executor=True
        )
        master.tell(message)
        await master.update("grouped", v1.TASK_FINISHED)


async def test_executors_have_to_prove_it_to_a_later_agent(flags: Flags, run_directory: Path) -> None:
    """They have had their tokens before that was asked of them."""
    (key := run_directory / "key").write_bytes(bytes(range(32)))
    key.chmod(0o600)
    async with running_agent(flags, f"--jwt_secret_key={key}", destroys=False) as before:
        before.run(command_task("long", "sleep 1000"), checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
        port = before.agent.tasks.registration.address.port
    required = "--authenticate_http_executors"
    async with running_agent(flags, f"--jwt_secret_key={key}", required, port=port) as master:
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)


async def test_executors_reach_the_agent_by_a_socket(flags: Flags) -> None:
    async with running_agent(flags, "--http_executor_domain_sockets") as master:
        path = flags.runtime_dir / "agent.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        task = command_task("any", "test -S $MESOS_DOMAIN_SOCKET")
        task.command.user = "nobody"
        master.run(task)
        await master.update("any", v1.TASK_FINISHED)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            for name, status in (("/slave(1)/api/v1", 200), ("/tasks", 403), ("/slave(1)/state", 403), ("/help", 403)):
                async with session.post(f"http://agent{name}", json={"type": "GET_HEALTH"}) as answer:
                    assert (name, answer.status) == (name, status)
    assert not path.exists()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the archive is for amd64")
async def test_an_executor_in_an_image_comes_back_by_the_socket(
    flags: Flags, rootfs: Path, run_directory: Path
) -> None:
    """Which is another one when the agent was started again, as is the port; of the host it sees nothing else there."""
    (archives := run_directory / "archives").mkdir()
    docker_archive(archives / "box.tar", "box:latest", rootfs)
    options = [
        "--http_executor_domain_sockets",
        "--image_providers=docker",
        f"--docker_registry={archives}",
        f"--docker_store_dir={run_directory / 'store'}",
    ]
    isolation = "filesystem/linux,namespaces/pid,docker/runtime"
    image = v1.Image(type=v1.Image.DOCKER, docker=v1.Image.Docker(name="box"))
    container = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, mesos=v1.ContainerInfo.MesosInfo(image=image))
    listing = f"ls {flags.runtime_dir} {flags.runtime_dir}/executors; sleep 1000"
    async with running_agent(flags, *options, isolation=isolation, destroys=False) as before:
        before.run(command_task("long", listing, container=container), checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
    async with running_agent(flags, *options, isolation=isolation) as master:
        directory = master.executor("long").directory
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        names = (directory / "stdout").read_text().split()
        assert [name for name in names if not name.endswith(":")] == ["executors", "agent.sock"]
