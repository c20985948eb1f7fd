"""`mesocosm logs`, and the output of tasks that are run from the command line: shown as it comes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess
from tests.client_commands import Client
from tests.command_line import MESOCOSM, TIMEOUT, CommandLine, line
from tests.plugins import install

pytestmark = pytest.mark.kernel

MANY = 5000


def test_what_a_container_has_written(agent: AgentProcess) -> None:
    agent.start()
    client = Client(agent)
    agent.launch("done", "echo one; echo err >&2; echo two; printf three; exit 3")
    agent.launch("silent", "true")
    for name in ("done", "silent"):
        agent.wait_for(name)
    shown = client.run("logs", "done")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "one\ntwo\nthree", "err\n")
    assert client.run("logs", "--stderr", "done").stdout == ""
    assert client.run("logs", "--stdout", "-f", "d").stderr == ""
    tails = {number: client.run("logs", "--tail", str(number), "--stdout", "done").stdout for number in range(5)}
    assert tails == {0: "", 1: "three", 2: "two\nthree", 3: "one\ntwo\nthree", 4: "one\ntwo\nthree"}
    assert client.lines("logs", "silent") == []
    assert client.refused("logs", "nope") == "there is no container 'nope'; `mesocosm ps --all` shows what there is"


def test_files_that_were_full_are_part_of_it(agent: AgentProcess) -> None:
    agent.start("--container_logger=logrotate", "--logrotate_max_stdout_size=4KB", "--logrotate_stdout_count=1000")
    client = Client(agent)
    agent.launch("x", f"mkfifo go; seq {MANY}; cat go")
    wanted = [str(number) for number in range(1, MANY + 1)]
    with following(client, "-f", "x") as follow:
        assert [line(follow) for _ in wanted] == wanted
        (agent.sandbox("x") / "go").write_text("end\n")
        assert line(follow) == "end"
        assert follow.wait(TIMEOUT) == 0
    assert client.lines("logs", "x") == [*wanted, "end"]
    assert client.lines("logs", "--tail", "3000", "x") == [*wanted[-2999:], "end"]


_ELSEWHERE = """
import os

from mesocosm.containerizer.base import ContainerIO
from mesocosm.loggers.base import ContainerLogger


class Elsewhere(ContainerLogger):
    async def prepare(self, container_id, config, sandbox):
        return ContainerIO(stdout=os.open(os.devnull, os.O_WRONLY), stderr=os.open(os.devnull, os.O_WRONLY))
"""


def test_a_logger_that_keeps_it_elsewhere(agent: AgentProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    install(plugins, monkeypatch, "mesocosm.container_loggers", _ELSEWHERE, elsewhere="Elsewhere")
    agent.start("--container_logger=elsewhere", env=os.environ | {"PYTHONPATH": str(plugins)})
    client = Client(agent)
    agent.launch("x", "echo out; sleep 1000")
    reason = "No such file or directory; --container_logger=elsewhere keeps output elsewhere"
    assert client.refused("attach", "x").startswith("x has no output that can be followed: ")
    assert client.refused("attach", "x").endswith(reason)
    there = ("run", "--agent", client.environment["MESOCOSM_AGENT"], "--name", "run")
    assert f"{reason}; 'run' may go on; `mesocosm kill run` ends it" in client.refused(*there, "--", "sleep", "1000")
    assert client.refused("logs", "x") == (
        "there is no output of x in its sandbox; the --container_logger of its agent may keep it elsewhere"
    )
    assert client.lines("exec", "x", "echo", "seen") == ["seen"]


def following(client: Client, *arguments: str) -> subprocess.Popen[bytes]:
    """`mesocosm logs` that goes on."""
    argv = [*MESOCOSM, "logs", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=client.environment)


def test_a_container_is_followed_to_its_end(agent: AgentProcess) -> None:
    agent.start()
    client = Client(agent)
    agent.launch("top", "sleep 1000")
    agent.launch("one", "rm stderr; echo only; mkfifo go; cat go")
    with following(client, "-f", "one") as follow:
        assert line(follow) == "only"
        (agent.sandbox("one") / "go").write_text("")
        assert (follow.wait(TIMEOUT), follow.stderr and follow.stderr.read()) == (0, b"")
    agent.launch("x", "mkfifo go; echo before; echo now; cat go; echo err >&2; cat go", nested_in="top")
    go = agent.sandbox("top") / "containers/x/go"
    with following(client, "-f", "--tail", "1", "top.x") as follow:
        assert line(follow) == "now"
        go.write_text("later\n")
        assert line(follow) == "later"
        assert follow.stderr is not None
        assert follow.stderr.readline() == b"err\n"
        go.write_text("")
        assert follow.wait(TIMEOUT) == 0


def test_who_has_seen_enough_leaves(agent: AgentProcess) -> None:
    agent.start()
    client = Client(agent)
    agent.launch("x", "echo line; sleep 1000")
    with client.spawn("logs", "-f", "x") as terminal:
        terminal.expect("line")
        terminal.sendintr()
        terminal.wait()
        assert terminal.signalstatus == signal.SIGINT


def test_tasks_are_seen_while_they_run(run_directory: Path, unique_name: str) -> None:
    fifo = run_directory / "fifo"
    os.mkfifo(fifo)
    resources = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]
    file = run_directory / "task.json"
    command = {"value": f"echo out; echo err >&2; cat {fifo}; exit 3"}
    file.write_text(json.dumps({"task_id": {"value": "t"}, "command": command, "resources": resources}))
    cli = CommandLine(run_directory, unique_name)
    with cli.start("--task", str(file), stderr=subprocess.PIPE, bufsize=0) as run:
        assert run.stderr is not None
        assert line(run) == "out"
        while run.stderr.readline() != b"err\n":
            assert select.select([run.stderr], [], [], TIMEOUT)[0]
        fifo.write_text("last\n")
        assert line(run) == "last"
        assert run.stderr.read().endswith(b"mesocosm: t: TASK_FAILED: Command exited with status 3\n")
        assert run.wait(TIMEOUT) == 1
