"""The default executor and an agent: groups of tasks, in containers nested in that of their executor."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from pathlib import Path

import pytest

from mesocosm.api import internal, v1
from mesocosm.container import ContainerID
from mesocosm.flags import Flags
from tests.docker_archive import docker_archive
from tests.executor_agent import ExecutorAgent
from tests.executor_agent import task_info as as_json
from tests.kernel.test_checks import Server
from tests.kernel.test_group_checks import health, healthy
from tests.networks import networks_in
from tests.task_agent import FRAMEWORK_ID, Master, running_agent
from tests.task_groups import EXECUTOR, run, task

pytestmark = pytest.mark.kernel
SOON = {"delay_seconds": 0, "interval_seconds": 0.02, "grace_period_seconds": 0}


async def checked(master: Master, name: str) -> v1.CheckStatusInfo:
    """The first answer of a task's check."""
    reason = v1.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED

    def tells(message: internal.StatusUpdateMessage) -> bool:
        return message.update.status.task_id.value == name and message.update.status.reason == reason

    return (await master.heard(internal.StatusUpdateMessage, tells)).update.status.check_status


def sandbox(master: Master) -> Path:
    """That of the executor."""
    return master.executor(EXECUTOR).directory


def grace(seconds: float) -> v1.KillPolicy:
    return v1.KillPolicy(grace_period=v1.DurationInfo(nanoseconds=int(seconds * 1e9)))


async def test_a_group_runs_and_ends(flags: Flags) -> None:
    """Each task is a container nested in the executor's, and the executor ends with the last."""
    script = "env; readlink /proc/self/ns/pid; echo $PWD"
    async with running_agent(flags) as master:
        secret = v1.Secret(type=v1.Secret.VALUE, value=v1.Secret.Value(data=b"password"))
        variable = v1.Environment.Variable(name="HIDDEN", type=v1.Environment.Variable.SECRET, secret=secret)
        hidden = v1.CommandInfo(value=script, environment=v1.Environment(variables=[variable]))
        run(master, [task("a", command=hidden), task("b")])
        for name in "ab":
            status = await master.update(name, v1.TASK_RUNNING)
            assert status.source == v1.TaskStatus.SOURCE_EXECUTOR
            own = status.container_status.container_id
            assert own.parent.value == master.executor(EXECUTOR).container_id.value
        status = await master.update("a", v1.TASK_FINISHED)
        assert status.message == "Command exited with status 0"
        assert master.states("a") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        lines = (sandbox(master) / "tasks/a/stdout").read_text().splitlines()
        assert {"MESOS_CONTAINER_IP=127.0.0.1", "HIDDEN=password"} <= set(lines)
        assert any(line.startswith("MESOS_ALLOCATION_ROLE=") for line in lines)
        assert lines[-1].startswith(f"{sandbox(master)}/containers/")
        directory = sandbox(master)
        master.kill("b")
        await master.update("b", v1.TASK_KILLED)
        await master.gone()
        assert (directory / "stderr").read_text() == ""


async def test_a_group_in_a_network_of_its_own(flags: Flags, run_directory: Path) -> None:
    """It is told the address that it has in there, from where there is no way to the agent but its socket."""
    with networks_in(run_directory) as networks:
        networks.describe("routeless", networks.bridge(78))
        container = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, network_infos=[v1.NetworkInfo(name="routeless")])
        options = ("--http_executor_domain_sockets", *networks.arguments)
        async with running_agent(flags, *options, isolation="filesystem/linux,network/cni") as master:
            run(master, [task("a", "echo $MESOS_CONTAINER_IP"), task("b")], container=container)
            await master.update("a", v1.TASK_FINISHED)
            status = await master.agent.containerizer.status(master.executor(EXECUTOR).container_id)
            (network,) = status.network_infos or ()
            assert [each.ip_address for each in network.ip_addresses] == ["10.78.0.2"]
            assert (sandbox(master) / "tasks/a/stdout").read_text() == "10.78.0.2\n"
        assert networks.is_clean()


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$"])
async def test_a_task_that_fails_ends_its_group(flags: Flags, script: str) -> None:
    """And no other group of the executor."""
    async with running_agent(flags) as master:
        run(master, [task("other", "sleep 60")])
        await master.update("other", v1.TASK_RUNNING)
        run(master, [task("good"), task("bad", script)])
        status = await master.update("bad", v1.TASK_FAILED)
        ends = {"exit 3": "exited with status 3", "kill -9 $$": "terminated with signal Killed"}
        assert status.message == f"Command {ends[script]}"
        status = await master.update("good", v1.TASK_KILLED)
        assert status.message == "Command terminated with signal Terminated"
        assert master.states("other") == ["TASK_STARTING", "TASK_RUNNING"]
        master.kill("other")
        await master.update("other", v1.TASK_KILLED)
        await master.gone()
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0


async def test_a_task_that_ends_well_leaves_its_group_alone(flags: Flags) -> None:
    async with running_agent(flags) as master:
        run(master, [task("short", "true"), task("long")])
        await master.update("short", v1.TASK_FINISHED)
        await master.update("long", v1.TASK_RUNNING)
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        assert "TASK_KILLED" not in master.states("short")
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        await master.gone()


async def test_a_kill_is_escalated(flags: Flags) -> None:
    """After the time of the task's policy; the framework is told that it is being killed."""
    killing = v1.FrameworkInfo.Capability(type=v1.FrameworkInfo.Capability.TASK_KILLING_STATE)
    async with running_agent(flags) as master:
        stubborn = task("stubborn", "trap '' TERM; echo up; while :; do sleep 1; done", kill_policy=grace(0.05))
        run(master, [stubborn], framework={"capabilities": [killing]})
        await master.update("stubborn", v1.TASK_RUNNING)
        master.kill("stubborn")
        status = await master.update("stubborn", v1.TASK_KILLED)
        assert "signal Killed" in status.message
        assert master.states("stubborn") == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
        await master.gone()


async def test_a_task_has_only_so_much_time(flags: Flags) -> None:
    async with running_agent(flags) as master:
        limit = v1.DurationInfo(nanoseconds=int(2e8))
        run(master, [task("a", max_completion_time=limit), task("b")])
        status = await master.update("a", v1.TASK_FAILED)
        assert status.reason == v1.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED
        await master.update("b", v1.TASK_KILLED)
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        await master.gone()


async def test_a_shutdown_ends_all_tasks(flags: Flags) -> None:
    async with running_agent(flags) as master:
        run(master, [task("a"), task("b")])
        for name in "ab":
            await master.update(name, v1.TASK_RUNNING)
        master.tell(
            internal.ShutdownExecutorMessage(
                framework_id=v1.FrameworkID(value=FRAMEWORK_ID), executor_id=v1.ExecutorID(value=EXECUTOR)
            )
        )
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == 0
        for name in "ab":
            assert (await master.update(name, v1.TASK_KILLED)).source == v1.TaskStatus.SOURCE_EXECUTOR


async def test_a_task_that_cannot_be_launched_fails_with_its_group(flags: Flags) -> None:
    async with running_agent(flags) as master:
        command = v1.CommandInfo(shell=False, value="/none/such")
        run(master, [task("good"), task("bad", command=command)])
        status = await master.update("bad", v1.TASK_FAILED)
        assert "/none/such" in status.message
        await master.update("good", v1.TASK_KILLED)
        assert "TASK_RUNNING" not in master.states("bad")
        await master.gone()


async def test_a_limit_that_a_task_exceeds_is_why_it_fails(flags: Flags) -> None:
    """The task has cgroups of its own if it asks for them; the executor's stay as they are."""
    own = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, linux_info=v1.LinuxInfo(share_cgroups=False))
    async with running_agent(flags) as master:
        run(master, [task("hungry", "tail /dev/zero", container=own), task("modest")])
        status = await master.update("hungry", v1.TASK_FAILED)
        assert status.reason == v1.TaskStatus.REASON_CONTAINER_LIMITATION_MEMORY
        assert status.limitation.resources[0].name == "mem"
        assert status.message.startswith("Command terminated with signal Killed: Memory limit exceeded")
        await master.update("modest", v1.TASK_KILLED)
        await master.gone()


async def test_an_executor_has_what_its_tasks_have(flags: Flags) -> None:
    """Requests and limits are added up; what is asked of memory is lowered again when tasks end, its limit is not."""
    own = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, linux_info=v1.LinuxInfo(share_cgroups=False))
    isolation = "filesystem/linux,namespaces/pid,cgroups/cpu,cgroups/mem"
    limits = {"cpus": v1.Value.Scalar(value=0.5), "mem": v1.Value.Scalar(value=64)}
    async with running_agent(flags, "--cgroups_enable_cfs", isolation=isolation) as master:

        async def amounts(name: str | None = None) -> tuple[object, ...]:
            container_id = master.executor(EXECUTOR).container_id
            if name is not None:
                status = await master.update(name, v1.TASK_RUNNING)
                container_id = ContainerID(status.container_status.container_id.value, container_id)
            usage = await master.agent.containerizer.usage(container_id)
            memory = (usage.mem_soft_limit_bytes or 0) >> 20, (usage.mem_limit_bytes or 0) >> 20
            return round(usage.cpus_soft_limit or 0, 2), round(usage.cpus_limit or 0, 2), *memory

        run(master, [task("a", container=own), task("b", container=own, limits=limits)])
        assert await amounts("a") == (0.1, 0.1, 32, 32)
        assert await amounts("b") == (0.1, 0.5, 32, 64)
        assert await amounts() == (0.3, 0.7, 96, 128)
        run(master, [task("c", container=own)])
        await master.update("c", v1.TASK_RUNNING)
        assert await amounts() == (0.4, 0.8, 128, 160)
        master.kill("a")
        for name in "ab":
            await master.update(name, v1.TASK_KILLED)
        assert await amounts() == (0.2, 0.2, 64, 160)


async def test_tasks_share_a_volume_of_their_executor(flags: Flags) -> None:
    """By its sandbox, which each sees elsewhere."""
    parent = v1.Volume.Source.SandboxPath(type=v1.Volume.Source.SandboxPath.PARENT, path="shared")
    source = v1.Volume.Source(type=v1.Volume.Source.SANDBOX_PATH, sandbox_path=parent)
    volume = v1.Volume(container_path="here", mode=v1.Volume.RW, source=source)
    container = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, volumes=[volume])
    isolation = "filesystem/linux,namespaces/pid,volume/sandbox_path"
    async with running_agent(flags, isolation=isolation) as master:
        run(master, [task("a", "mkfifo here/pipe; read -r line < here/pipe; echo $line", container=container)])
        await master.update("a", v1.TASK_RUNNING)
        script = "until test -p here/pipe; do :; done; echo hello > here/pipe"
        run(master, [task("b", script, container=container)])
        await master.update("a", v1.TASK_FINISHED)
        await master.update("b", v1.TASK_FINISHED)
        await master.gone()


async def test_health_of_a_task(flags: Flags) -> None:
    """Asked from the network of the group. A task that is not healthy is killed, and its group with it."""
    check = v1.HealthCheck(type=v1.HealthCheck.TCP, tcp={"port": 1}, consecutive_failures=2, **SOON)
    async with running_agent(flags) as master:
        run(master, [task("sick", health_check=check), task("well")])
        for name in ("sick", "well"):
            assert (await master.update(name, v1.TASK_KILLED)).healthy is False
        states = master.states("sick")
        assert states == ["TASK_STARTING", *["TASK_RUNNING"] * 3, "TASK_KILLED"]
        await master.gone()
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0


async def test_tasks_are_their_frameworks_user(flags: Flags) -> None:
    """Unless they say otherwise; their executor, which launches them, is that user in any case."""
    script = "id -un; stat -c %U ."
    async with running_agent(flags) as master:
        tasks = [task("a", script), task("b", command=v1.CommandInfo(value=script, user="daemon"))]
        run(master, tasks, framework={"user": "nobody"})
        for name in "ab":
            await master.update(name, v1.TASK_RUNNING)
        links = sandbox(master) / "tasks"
        for name, user in (("a", "nobody"), ("b", "daemon")):
            await master.update(name, v1.TASK_FINISHED)
            assert (links / name / "stdout").read_text().split() == [user, user]
        assert links.owner() == "nobody"
        await master.gone()
        asking = health("test $(id -un) = daemon && test $(stat -c %U .) = daemon")
        checked = v1.CommandInfo(value="sleep 60", user="daemon")
        run(master, [task("c", command=checked, health_check=asking)], framework={"user": "nobody"})
        assert await healthy(master, "c")
        master.kill("c")
        await master.update("c", v1.TASK_KILLED)
        await master.gone()


async def test_an_agent_that_comes_back(executor_agent: ExecutorAgent) -> None:
    """Waits go on with it, also for what ended meanwhile; and launches that it was not ready for."""
    executor_agent.acknowledges = False
    executor = await executor_agent.executor("default-executor")
    container_id = {"value": executor.container_id.value}
    await executor_agent.subscribed(container_id=container_id)
    pipe = executor.sandbox / "pipe"
    os.mkfifo(pipe)
    scripts = {"a": f"read -r line < {pipe}; exit 0", "b": "sleep 60"}
    executor_agent.unavailable = 3
    tasks = [as_json(script, name) for name, script in scripts.items()]
    await executor_agent.send("LAUNCH_GROUP", task_group={"tasks": tasks})
    for state in ("TASK_STARTING", "TASK_STARTING", "TASK_RUNNING", "TASK_RUNNING"):
        await executor_agent.update(state)
    await executor_agent.stop()
    await asyncio.to_thread(pipe.write_text, "end\n")
    executor_agent.unavailable = 3
    await executor_agent.start()
    subscribe = await executor_agent.subscribed(container_id=container_id)
    assert sorted(each["task_id"]["value"] for each in subscribe["unacknowledged_tasks"]) == ["a", "b"]
    updates = [each["status"] for each in subscribe["unacknowledged_updates"]]
    assert [each["state"] for each in updates[:4]] == ["TASK_STARTING", "TASK_STARTING", "TASK_RUNNING", "TASK_RUNNING"]
    for each in updates:
        await executor_agent.acknowledge(each)
    executor_agent.acknowledges = True
    await executor_agent.update("TASK_FINISHED")
    await executor_agent.send("KILL", task_id={"value": "b"})
    await executor_agent.update("TASK_KILLED")
    assert await executor.wait() == 0


async def test_an_agent_that_does_not_come_back(executor_agent: ExecutorAgent) -> None:
    """The executor ends, and with its container all that is nested in it."""
    executor = await executor_agent.executor("default-executor", environment={"MESOS_RECOVERY_TIMEOUT": "100ms"})
    await executor_agent.subscribed(container_id={"value": executor.container_id.value})
    await executor_agent.send("LAUNCH_GROUP", task_group={"tasks": [as_json("sleep 60", "a")]})
    await executor_agent.update("TASK_STARTING")
    await executor_agent.update("TASK_RUNNING")
    await executor_agent.stop()
    assert await executor.wait() == 1
    assert not await executor.containerizer.containers()


async def test_all_tasks_of_a_group_are_killed_at_once(flags: Flags) -> None:
    """Each is killed, also one that ends well when it is asked to; and the executor has done what it should."""
    async with running_agent(flags) as master:
        run(master, [task("a"), task("b", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done")])
        for name in "ab":
            await master.update(name, v1.TASK_RUNNING)
        for name in "ab":
            master.kill(name)
        assert (await master.update("b", v1.TASK_KILLED)).message.startswith("Command ")
        await master.update("a", v1.TASK_KILLED)
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        await master.gone()


async def test_an_executor_that_is_killed_takes_its_tasks_along(flags: Flags) -> None:
    async with running_agent(flags) as master:
        run(master, [task("a"), task("b")])
        for name in "ab":
            await master.update(name, v1.TASK_RUNNING)
        init = (await master.agent.containerizer.status(master.executor(EXECUTOR).container_id)).executor_pid
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        (pid,) = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("default-exec")]
        os.kill(int(pid), signal.SIGKILL)
        for name in "ab":
            status = await master.update(name, v1.TASK_FAILED)
            assert status.source == v1.TaskStatus.SOURCE_AGENT
        assert (await master.heard(internal.ExitedExecutorMessage)).status == signal.SIGKILL
        await master.gone()


async def test_groups_share_the_pid_namespace_of_their_executor(flags: Flags) -> None:
    """If they ask for it; others have one of their own."""
    shared = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, linux_info=v1.LinuxInfo(share_pid_namespace=True))
    async with running_agent(flags) as master:
        run(master, [task("long")])
        await master.update("long", v1.TASK_RUNNING)
        links = sandbox(master) / "tasks"
        script = "readlink /proc/self/ns/pid"
        for name, container in (("a", shared), ("b", shared), ("c", None)):
            run(master, [task(name, script, container=container)])
            await master.update(name, v1.TASK_FINISHED)
        a, b, c = ((links / name / "stdout").read_text() for name in "abc")
        init = (await master.agent.containerizer.status(master.executor(EXECUTOR).container_id)).executor_pid
        assert a == b == f"{Path(f'/proc/{init}/ns/pid').readlink()}\n"
        assert c != a


async def test_files_of_a_task_are_fetched(flags: Flags, run_directory: Path) -> None:
    (run_directory / "file").write_text("content\n")
    uri = v1.CommandInfo.URI(value=str(run_directory / "file"))
    async with running_agent(flags) as master:
        run(master, [task("a", command=v1.CommandInfo(value="grep content file", uris=[uri]))])
        await master.update("a", v1.TASK_FINISHED)
        await master.gone()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the archive is for amd64")
async def test_files_of_a_task_in_an_image_are_fetched(flags: Flags, rootfs: Path, run_directory: Path) -> None:
    (archives := run_directory / "archives").mkdir()
    docker_archive(archives / "box.tar", "box:latest", rootfs)
    (given := run_directory / "given").write_text("given")
    options = (
        "--image_providers=docker",
        f"--docker_registry={archives}",
        f"--docker_store_dir={run_directory / 'store'}",
    )
    image = v1.Image(type=v1.Image.DOCKER, docker=v1.Image.Docker(name="box"))
    container = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, mesos=v1.ContainerInfo.MesosInfo(image=image))
    command = v1.CommandInfo(
        value=f"test $(cat given) = given -a ! -e {given}", uris=[v1.CommandInfo.URI(value=str(given))]
    )
    isolation = "filesystem/linux,namespaces/pid,docker/runtime"
    async with running_agent(flags, *options, isolation=isolation) as master:
        asking = health(f"test $(cat given) = given -a ! -e {given}")
        inside = task("b", container=container, command=v1.CommandInfo(value="sleep 60", uris=command.uris))
        inside.health_check.CopyFrom(asking)
        run(master, [task("a", command=command, container=container), inside])
        await master.update("a", v1.TASK_FINISHED)
        assert await healthy(master, "b")
        master.kill("b")
        await master.update("b", v1.TASK_KILLED)
        await master.gone()


async def test_checks_of_tasks(flags: Flags) -> None:
    serving = Server()
    http = v1.CheckInfo(type=v1.CheckInfo.HTTP, http={"port": serving.port}, delay_seconds=0, interval_seconds=0.02)
    tcp = v1.CheckInfo(type=v1.CheckInfo.TCP, tcp={"port": serving.port}, delay_seconds=0, interval_seconds=0.02)
    try:
        async with running_agent(flags) as master:
            run(master, [task("http", check=http), task("tcp", check=tcp)])
            assert (await checked(master, "http")).http.status_code == 200
            assert (await checked(master, "tcp")).tcp.succeeded
    finally:
        await asyncio.to_thread(serving.close)


async def test_it_is_no_executor_of_a_single_task(flags: Flags) -> None:
    async with running_agent(flags) as master:
        run(master, [task("a")])
        await master.update("a", v1.TASK_RUNNING)
        single = task("single")
        single.ClearField("command")
        single.executor.CopyFrom(master.executor(EXECUTOR).info)
        master.run(single, launch=False)
        await master.update("a", v1.TASK_KILLED)
        await master.gone()
