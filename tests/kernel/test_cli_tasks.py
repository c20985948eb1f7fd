"""`mesocosm run --task`: tasks of Mesos without a cluster, and what is left of them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mesocosm.agent.http.routes import Request
from mesocosm.agent.http.state import Address
from mesocosm.agent.http.tasks import LocalTasks
from mesocosm.flags import Flags
from tests.agent_process import AgentProcess
from tests.command_line import MESOCOSM, TIMEOUT, CommandLine, children
from tests.docker_daemon import IMAGE, Docker
from tests.task_agent import running_agent

pytestmark = pytest.mark.kernel


def task(name: str, command: str, **fields: Any) -> dict[str, Any]:
    resources = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]
    return {"task_id": {"value": name}, "command": {"value": command}, "resources": resources, **fields}


@pytest.fixture
def cli(run_directory: Path, unique_name: str) -> CommandLine:
    return CommandLine(run_directory, unique_name)


def run(cli: CommandLine, value: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return cli.run("--task", "-", *arguments, input=json.dumps(value), text=True, timeout=3 * TIMEOUT)


def states(text: str, name: str) -> list[str]:
    """What was told of a task, in order."""
    prefix = f"mesocosm: {name}: "
    return [entry.removeprefix(prefix) for entry in text.splitlines() if entry.startswith(prefix)]


def test_a_task_ends_and_its_output_is_shown(cli: CommandLine) -> None:
    result = run(cli, task("t", "echo out; echo err >&2; cat /proc/self/cgroup; exit 3"))
    assert result.returncode == 1
    assert states(result.stderr, "t") == [
        "TASK_STARTING",
        "TASK_RUNNING",
        "TASK_FAILED: Command exited with status 3",
    ]
    out, *cgroups = result.stdout.splitlines()
    assert out == "out"
    assert any(cli.name in group for group in cgroups)
    assert "err" in result.stderr.splitlines()
    assert not cli.left()


def test_a_group_finishes_together(cli: CommandLine) -> None:
    result = run(cli, {"tasks": [task("a", "echo from a"), task("b", "echo from b")]})
    assert result.returncode == 0, result.stderr
    assert {states(result.stderr, name)[-1].partition(":")[0] for name in "ab"} == {"TASK_FINISHED"}
    assert sorted(result.stdout.splitlines()) == ["from a", "from b"]
    assert not cli.left()


def test_a_signal_kills_the_task(cli: CommandLine) -> None:
    with cli.start("--task", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        _give(process, task("t", "exec sleep 1000"))
        _await(process, "TASK_RUNNING")
        process.send_signal(signal.SIGINT)
        _await(process, "TASK_KILLED")
        assert process.wait(TIMEOUT) == 1
    assert not cli.left()


def test_kill_9_leaves_nothing(cli: CommandLine) -> None:
    with cli.start("--task", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        _give(process, task("t", "exec sleep 1000"))
        _await(process, "TASK_RUNNING")
        agents = [os.pidfd_open(child) for child in children(process.pid)]
        process.kill()
        for agent in agents:
            assert select.select([agent], [], [], TIMEOUT)[0], "the agent goes on"
            os.close(agent)
    assert cli.run("true", name=f"{cli.name}-next").returncode == 0  # Which removes what is left of others.
    assert not cli.left()


def test_an_agent_runs_it(agent: AgentProcess, tmp_path: Path) -> None:
    agent.start()
    file = tmp_path / "task.json"
    file.write_text(json.dumps(task("t", "echo hello")))
    url = f"http://{agent.host}:{agent.port}"
    argv = [*MESOCOSM, "run", "--agent", url, "--task", str(file)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert result.stdout == "hello\n"
    assert states(result.stderr, "t")[-1].startswith("TASK_FINISHED")
    completed = agent.get("/state").json["completed_frameworks"]
    assert [framework["name"] for framework in completed] == ["mesocosm run"]


def test_the_end_of_the_client_is_that_of_the_task(agent: AgentProcess, tmp_path: Path) -> None:
    agent.start()
    file = tmp_path / "task.json"
    file.write_text(json.dumps(task("t", "exec sleep 1000")))
    url = f"http://{agent.host}:{agent.port}"
    argv = [*MESOCOSM, "run", "--agent", url, "--task", str(file)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        _await(process, "TASK_RUNNING")
        container = agent.get("/containers").json[0]["container_id"]
        process.kill()
    ended = agent.call("WAIT_CONTAINER", container_id={"value": container})
    assert ended.status in (200, 404)  # It may have been forgotten already, as those of executors are.
    assert agent.get("/containers").json == []


async def test_tasks_whose_client_is_gone_before_the_answer_do_not_begin(flags: Flags) -> None:
    async def read() -> bytes:
        return json.dumps({"task": task("t", "exec sleep 1000")}).encode()

    def chunks() -> NoReturn:
        raise NotImplementedError

    async with running_agent(flags) as master:
        tasks = LocalTasks(master.agent, Address("localhost", "127.0.0.1", 5051))
        reply = await tasks.submit(Request("POST", "/tasks", {}, {}, None, None, read, chunks))
        assert reply.stream is not None
        await reply.stream.aclose()
        assert not list(master.agent.tasks.frameworks)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "/nonexistent"], "--task: /nonexistent: No such file or directory"),
        (["--task", "/dev/null"], "--task: /dev/null is no JSON"),
        (["--task", "/dev/null", "--mem", "1GB"], "--mem does not go with --task; say it in the file"),
        (["--task", "/dev/null", "--", "true"], "COMMAND does not go with --task; say it in the file"),
        (["--agent", "http://127.0.0.1:1", "true"], "no agent answers at http://127.0.0.1:1: Connection refused"),
        (["--detach", "true"], "--detach goes with --agent"),
    ],
)
def test_what_does_not_go_is_said(arguments: list[str], said: str) -> None:
    result = subprocess.run(
        [*MESOCOSM, "run", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert result.returncode == 125
    assert result.stderr.startswith(f"mesocosm: {said}")
    assert result.stderr.count("\n") == 1


def test_a_task_that_makes_no_sense_is_refused(cli: CommandLine) -> None:
    result = run(cli, {"task_id": {"value": "t"}})
    assert result.returncode == 125
    assert result.stderr == "mesocosm: the task 't': it takes either a command or an executor\n"
    assert not cli.left()


def _give(process: subprocess.Popen[bytes], value: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode())
    process.stdin.close()


def _await(process: subprocess.Popen[bytes], word: str) -> None:
    assert process.stderr is not None
    while word not in (entry := process.stderr.readline().decode()):
        assert entry, f"it ended without {word}"


def of_docker(name: str, command: str) -> dict[str, Any]:
    return task(name, command, container={"type": "DOCKER", "docker": {"image": IMAGE}})


def test_a_task_of_docker(cli: CommandLine, shared_docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same as any other, and of Docker's there is nothing left either."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{shared_docker.socket}")
    result = run(cli, of_docker("t", "echo out; echo err >&2; exit 3"))
    assert result.returncode == 1
    assert states(result.stderr, "t") == [
        "TASK_STARTING",
        "TASK_RUNNING",
        "TASK_FAILED: Container exited with status 3",
    ]
    assert result.stdout == "out\n"
    assert "err" in result.stderr.splitlines()
    assert not cli.left()
    assert shared_docker.names() == set()


def test_kill_9_leaves_nothing_in_docker(
    cli: CommandLine, shared_docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does that of its agent, of which the next one who runs a container finds the place."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{shared_docker.socket}")
    other = shared_docker("create", "--name=mesos-10000000-2000-3000-4000-500000000000", IMAGE, "true").strip()
    with cli.start("--task", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        _give(process, of_docker("t", "exec sleep 1000"))
        _await(process, "TASK_RUNNING")
        (agent,) = children(process.pid)
        for pid in (agent, process.pid):
            os.kill(pid, signal.SIGKILL)
    assert cli.run("--", "true", name=f"{cli.name}-next").returncode == 0
    assert not cli.left()
    assert len(shared_docker.names()) == 1, "what is another agent's stays"
    shared_docker("rm", other)


def test_docker_elsewhere_is_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    result = run(cli, of_docker("t", "true"))
    assert result.returncode == 125
    assert "DOCKER_HOST is tcp://127.0.0.1:1, and that is no socket" in result.stderr
