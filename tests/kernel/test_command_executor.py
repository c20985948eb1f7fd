"""The command executor in real containers, against an agent that says what a test wants."""

from __future__ import annotations

import os
import signal
import ssl
from pathlib import Path

import pytest

from mesocosm.container import PersistentVolume
from tests.executor_agent import EXECUTOR, ExecutorAgent, seconds, task_info

pytestmark = pytest.mark.kernel

# Ignores SIGTERM, as does its child, until its input ends; says so when both do.
STUBBORN = "trap '' TERM; (trap '' TERM; echo up; exec sleep 60) & wait; sleep 60"


@pytest.mark.parametrize(
    ("command", "state", "message"),
    [
        ("echo out; echo err >&2", "TASK_FINISHED", "Command exited with status 0"),
        ("exit 3", "TASK_FAILED", "Command exited with status 3"),
        ("kill -KILL $$", "TASK_FAILED", "Command terminated with signal Killed"),
        (
            {"shell": False, "value": "sh", "arguments": ["name", "-c", "exit 4"]},
            "TASK_FAILED",
            "Command exited with status 4",
        ),
        ({"shell": False, "value": "/bin/true"}, "TASK_FINISHED", "Command exited with status 0"),
    ],
)
async def test_a_task_ends_as_its_command(
    executor_agent: ExecutorAgent, command: str | dict[str, object], state: str, message: str
) -> None:
    executor = await executor_agent.run(command)
    status = await executor_agent.end()
    assert (status["state"], status["message"]) == (state, message)
    assert status["source"] == "SOURCE_EXECUTOR"
    assert status["task_id"]["value"] == status["executor_id"]["value"] == EXECUTOR
    assert await executor.wait() == 0
    if message.endswith("0") and isinstance(command, str):
        assert (executor.stream(), executor.stream("stderr")) == ("out\n", "err\n")


async def test_a_command_that_cannot_be_executed(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.executor()
    await executor_agent.subscribed()
    await executor_agent.send("LAUNCH", task=task_info({"shell": False, "value": "nonesuch"}))
    await executor_agent.update("TASK_STARTING")
    status = await executor_agent.update("TASK_FAILED")
    assert "No such file or directory: 'nonesuch'" in status["message"]
    assert status["reason"] == "REASON_COMMAND_EXECUTOR_FAILED"
    assert await executor.wait() == 0


async def test_the_environment_of_a_command(executor_agent: ExecutorAgent) -> None:
    """The executor's, what the task says, and its role (recorded: layout/task_env.txt); a token is nobody's to see."""
    command = {
        "value": "env; tr '\\0' '\\n' < /proc/$PPID/environ; echo; id -un",
        "environment": {
            "variables": [{"name": "MESOS_EXECUTOR_ID", "value": "of the task"}, {"name": "OWN", "value": "1"}]
        },
    }
    environment = {"MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "a.b.c"}
    executor = await executor_agent.run(command, executor={"environment": environment})
    assert (await executor_agent.end())["state"] == "TASK_FINISHED"
    assert await executor.wait() == 0
    lines = set(executor.stream().splitlines())
    assert {"MESOS_EXECUTOR_ID=of the task", "OWN=1", "MESOS_ALLOCATION_ROLE=engineering", "root"} <= lines
    assert {f"MESOS_SANDBOX={executor.sandbox}", f"PWD={executor.sandbox}", "MESOS_CHECKPOINT=1"} <= lines
    assert not any("TOKEN" in line for line in lines)
    assert {request.headers["Authorization"] for request in executor_agent.requests} == {"Bearer a.b.c"}


async def test_a_kill_reaches_the_whole_tree(executor_agent: ExecutorAgent) -> None:
    """SIGTERM first: the command's child is told as well as itself, and a second kill changes nothing."""
    script = "(trap 'echo child' TERM; echo up; sleep 60 & wait) & trap 'echo command' TERM; wait; wait; exit 5"
    executor_agent.capabilities = ["TASK_KILLING_STATE"]
    executor = await executor_agent.run(script, executor={"talks": True})
    assert await executor.line() == "up"
    for _ in range(2):
        await executor_agent.send("KILL", task_id={"value": EXECUTOR}, kill_policy={"grace_period": seconds(60)})
    await executor_agent.update("TASK_KILLING")
    status = await executor_agent.update("TASK_KILLED")
    assert status["message"].startswith("Command ")
    assert await executor.wait() == 0
    assert sorted([await executor.line(), await executor.line()]) == ["child", "command"]


@pytest.mark.parametrize("of", ["the task", "the kill", "a later kill"])
async def test_a_kill_is_escalated(executor_agent: ExecutorAgent, of: str) -> None:
    """After the time that the kill or the task gives for it; a later kill can only make that less."""
    soon, late = {"grace_period": seconds(0.05)}, {"grace_period": seconds(600)}
    policy = soon if of == "the task" else late
    executor = await executor_agent.run(STUBBORN, executor={"talks": True}, kill_policy=policy)
    assert await executor.line() == "up"
    kill = {"task_id": {"value": EXECUTOR}}
    if of == "a later kill":
        await executor_agent.send("KILL", **kill)
    await executor_agent.send("KILL", **kill, **({} if of == "the task" else {"kill_policy": soon}))
    status = await executor_agent.update()
    assert (status["state"], status["message"]) == ("TASK_KILLED", "Command terminated with signal Killed")
    assert await executor.wait() == 0


async def test_a_task_has_only_so_much_time(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.run(STUBBORN, max_completion_time=seconds(0.2))
    status = await executor_agent.end()
    assert (status["state"], status["reason"]) == ("TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED")
    assert await executor.wait() == 0


async def test_a_shutdown_ends_the_task(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.run("sleep 60")
    await executor_agent.send("SHUTDOWN")
    status = await executor_agent.end()
    assert (status["state"], status["message"]) == ("TASK_KILLED", "Command terminated with signal Terminated")
    assert await executor.wait() == 0


async def test_a_shutdown_without_a_task_or_a_group_for_another_executor(executor_agent: ExecutorAgent) -> None:
    for event, fields in (("SHUTDOWN", {}), ("LAUNCH_GROUP", {"task_group": {"tasks": [task_info("true")]}})):
        executor = await executor_agent.executor()
        await executor_agent.subscribed()
        await executor_agent.send(event, **fields)
        assert await executor.wait() == 0


async def test_a_second_task_is_refused(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.run("sleep 60")
    await executor_agent.send("LAUNCH", task=task_info("true", "task-2"))
    status = await executor_agent.update("TASK_FAILED")
    assert status["task_id"]["value"] == "task-2"
    await executor_agent.send("KILL", task_id={"value": "task-2"})
    await executor_agent.send("KILL", task_id={"value": EXECUTOR})
    await executor_agent.update("TASK_KILLED")
    assert await executor.wait() == 0


async def test_a_task_that_runs_for_long(executor_agent: ExecutorAgent) -> None:
    """An agent closes a connection by which nothing comes for some time. That is no end of it."""
    await executor_agent.stop()
    executor_agent.idle = 0.5
    await executor_agent.start()
    executor = await executor_agent.run("sleep 1.5", executor={"environment": {"MESOS_CHECKPOINT": "0"}})
    await executor_agent.update("TASK_FINISHED")
    assert await executor.wait() == 0
    assert [call["type"] for call in executor_agent.calls].count("SUBSCRIBE") == 1


async def test_an_agent_that_comes_back(executor_agent: ExecutorAgent) -> None:
    """It is told of what it has not acknowledged, in order; and a task of which it knows nothing."""
    executor_agent.acknowledges = False
    executor = await executor_agent.run("read -r line; exit 7", executor={"talks": True})
    await executor_agent.stop()
    executor_agent.answer = 503
    await executor_agent.start()
    await executor_agent.requested(2)
    executor_agent.answer = 200
    subscribe = await executor_agent.subscribed()
    states = [update["status"]["state"] for update in subscribe["unacknowledged_updates"]]
    assert states == ["TASK_STARTING", "TASK_RUNNING"]
    assert [task["name"] for task in subscribe["unacknowledged_tasks"]] == [EXECUTOR]
    await executor_agent.acknowledge(subscribe["unacknowledged_updates"][0]["status"])
    await executor_agent.stop()
    executor.say("now")  # It ends while there is no agent.
    await executor_agent.start()
    subscribe = await executor_agent.subscribed()
    states = [update["status"]["state"] for update in subscribe["unacknowledged_updates"]]
    assert states[0] == "TASK_RUNNING"
    assert subscribe["unacknowledged_tasks"] == []
    last = subscribe["unacknowledged_updates"][1]["status"] if states[1:] else await executor_agent.update()
    assert last["message"] == "Command exited with status 7"
    for status in (subscribe["unacknowledged_updates"][0]["status"], last):
        await executor_agent.acknowledge(status)
    assert await executor.wait() == 0


@pytest.mark.parametrize(
    "environment", [{"MESOS_CHECKPOINT": "0"}, {"MESOS_RECOVERY_TIMEOUT": "100ms"}], ids=["at once", "after a time"]
)
async def test_an_agent_that_does_not_come_back(executor_agent: ExecutorAgent, environment: dict[str, str]) -> None:
    script = "trap 'echo ended; exit' TERM; echo up; sleep 60 & wait"
    executor = await executor_agent.run(script, executor={"environment": environment, "talks": True})
    assert await executor.line() == "up"
    await executor_agent.stop()
    assert await executor.line() == "ended"
    assert await executor.wait() == 1
    assert "the agent is gone" in executor.stream("stderr")


async def test_an_agent_that_does_not_want_it(executor_agent: ExecutorAgent) -> None:
    executor_agent.answer = 403
    executor = await executor_agent.executor()
    assert await executor.wait() == 1
    assert "does not accept the executor: 403 Agent has not finished recovery" in executor.stream("stderr")


async def test_an_agent_at_a_socket(executor_agent: ExecutorAgent, run_directory: Path) -> None:
    await executor_agent.stop()
    executor_agent.socket = run_directory / "agent.sock"
    await executor_agent.start()
    environment = {"MESOS_DOMAIN_SOCKET": str(executor_agent.socket), "MESOS_AGENT_ENDPOINT": "127.0.0.1:1"}
    executor = await executor_agent.run("true", executor={"environment": environment})
    await executor_agent.update("TASK_FINISHED")
    assert await executor.wait() == 0


async def test_an_agent_whose_socket_is_another_now(executor_agent: ExecutorAgent, run_directory: Path) -> None:
    """The next agent makes its own, which is not what a container with a root of its own has at that place."""
    environment = {"MESOS_DOMAIN_SOCKET": str(run_directory / "none.sock")}
    executor = await executor_agent.run("true", executor={"environment": environment})
    await executor_agent.update("TASK_FINISHED")
    assert await executor.wait() == 0


async def test_an_agent_that_speaks_tls(executor_agent: ExecutorAgent, certificate: Path) -> None:
    """With a certificate that is not asked for, or that is; the control is one that is of somebody else."""
    await executor_agent.stop()
    executor_agent.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    executor_agent.tls.load_cert_chain(certificate)
    await executor_agent.start()
    secure = {"LIBPROCESS_SSL_ENABLED": "true"}
    executor = await executor_agent.run("true", executor={"environment": secure})
    await executor_agent.update("TASK_FINISHED")
    assert await executor.wait() == 0
    checked = {**secure, "LIBPROCESS_SSL_VERIFY_SERVER_CERT": "true", "MESOS_CHECKPOINT": "0"}
    executor = await executor_agent.executor(environment={**checked, "LIBPROCESS_SSL_CA_FILE": str(certificate)})
    assert await executor.wait() == 1
    assert "certificate verify failed" in executor.stream("stderr")


async def test_a_task_in_an_image(executor_agent: ExecutorAgent, rootfs: Path) -> None:
    """The executor is not in it, and needs nothing of it: there is neither an interpreter nor a library."""
    script = "echo kept > data/file; id; pwd; ls /; echo $MESOS_SANDBOX"
    volumes = (PersistentVolume("v", "web", 1 << 20, "data"),)
    executor = await executor_agent.run(
        script, executor={"rootfs": rootfs, "user": "app", "persistent_volumes": volumes}
    )
    await executor_agent.update("TASK_FINISHED")
    assert await executor.wait() == 0
    lines = executor.stream().splitlines()
    assert lines[0].startswith("uid=1000(app) gid=1000(app)")
    assert lines[1] == lines[-1] == "/mnt/mesos/sandbox"
    assert "etc" in lines
    assert "work" not in lines
    kept = executor_agent.launch.flags.work_dir / "volumes/roles/web/v/file"
    assert kept.read_text() == "kept\n"


async def test_an_executor_that_is_killed_takes_its_task_along(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.run("sleep 60")
    init = await executor.pid()
    (pid,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    assert await executor.wait() == 128 + signal.SIGKILL
