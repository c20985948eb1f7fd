"""The commands that ask an agent, as processes: what they print, and where; who may ask, and how they say no."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.agent_process import AgentProcess
from tests.client_commands import Client, Screen
from tests.command_line import MESOCOSM, TIMEOUT
from tests.tls import secured

pytestmark = pytest.mark.kernel

ISOLATION = "filesystem/linux,namespaces/pid,cgroups/cpu,cgroups/mem,disk/du"


@pytest.fixture
def client(agent: AgentProcess) -> Client:
    """Of an agent with `web`, `web.side` in that, and `batch-1`, which has ended with 3."""
    agent.start(isolation=ISOLATION)
    memory: list[dict[str, Any]] = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]
    agent.launch("web", ["sleep", "1000"], resources=memory)
    agent.launch("side", "exec sleep 1000", nested_in="web")
    agent.launch("batch-1", "echo out; exit 3")
    assert agent.wait_for("batch-1")["exit_status"] == 3 << 8
    return Client(agent)


def columns(lines: list[str]) -> list[tuple[str, str]]:
    """The first two of a table."""
    return [(line.split("  ")[0].strip(), line.partition("  ")[2].strip().split("  ")[0]) for line in lines]


def test_containers_from_their_launch_to_their_removal(client: Client, agent: AgentProcess) -> None:
    assert columns(client.lines("ps")) == [("container", "state"), ("web", "running"), ("web.side", "running")]
    assert columns(client.lines("ps", "-a"))[3] == ("batch-1", "exit 3")
    assert client.lines("ps", "--quiet") == ["web", "web.side"]
    web, side, batch = json.loads(client.run("ps", "--json", "--all").stdout)
    assert (web["command"], side["parent"], batch["status"]) == ("sleep 1000", "web", 3 << 8)
    assert web["statistics"]["mem_limit_bytes"] == 64 << 20

    described = dict(line.split(maxsplit=1) for line in client.lines("inspect", "w"))
    assert described["memory"].endswith(" of 64.0 MB")
    assert described["nested"] == "web.side"
    assert json.loads(client.run("inspect", "ba", "--json").stdout)["id"] == "batch-1"
    assert client.run("wait", "batch").stdout == "batch-1: exit status 3\n"
    assert client.run("wait", "batch-1").returncode == 3

    assert client.lines("kill", "--signal", "term", "w.s") == ["web.side"]
    waited = client.run("wait", "--json", "web.side")
    assert waited.returncode == 128 + 15
    assert json.loads(waited.stdout) == {"id": "web.side", "exit_status": 143}
    assert client.refused("kill", "web.side") == "web.side has ended already"
    assert client.lines("rm", "web.s", "batch-1") == ["web.side", "batch-1"]
    assert client.lines("rm", "--force", "web") == ["web"]
    assert columns(client.lines("ps", "-a")) == [("container", "state")]
    assert not agent.sandbox("web").exists()


def test_what_is_wrong_is_one_line(client: Client, agent: AgentProcess) -> None:
    agent.launch("batch-2", "exit 0")
    unknown = "there is no container 'nope'; `mesocosm ps --all` shows what there is"
    for command in ("inspect", "kill", "wait", "rm", "stats"):
        assert client.refused(command, "nope") == unknown
    assert client.refused("inspect", "batch") == "'batch' could be batch-1, batch-2; write more of it"
    refusal = "web.side has not ended; `mesocosm rm --force web.side` ends it first"
    assert client.refused("rm", "web.side") == refusal
    assert client.refused("kill", "--signal", "nope", "web").startswith("--signal: 'nope' is no signal")
    assert client.refused("kill", "a/b").startswith("there is no container 'a/b'")
    several = client.run("rm", "nope", "batch-1", "web")
    assert (several.returncode, several.stdout) == (125, "batch-1\n")
    assert several.stderr.splitlines()[0] == f"mesocosm: {unknown}"
    assert several.stderr.count("\n") == 2
    nobody = "no agent answers at http://127.0.0.1:1: Connection refused; start one, or say where it is by"
    assert client.refused("ps", "--agent", "http://127.0.0.1:1").startswith(nobody)


def test_terminals(client: Client) -> None:
    lines = client.seen("ps", "-a")
    assert [line.split()[0] for line in lines] == ["\x1b[2mcontainer\x1b[0m", "web", "└─", "batch-1"]
    assert "\x1b[32mrunning\x1b[0m" in lines[1]
    assert client.seen("ps", NO_COLOR="1")[0].startswith("container  state    age")
    narrow = client.seen("ps", "-a", columns=28, NO_COLOR="1")
    assert narrow[0].split() == ["container", "state", "age"]
    assert max(map(len, narrow)) <= 28


def test_a_reader_that_has_seen_enough(client: Client, agent: AgentProcess) -> None:
    for number in range(10):  # Its table does not fit into the pipe's buffer at once.
        agent.launch(f"many-{number}", f"true {'x' * 12000}")
    script = f"{' '.join(MESOCOSM)} ps --all | head -n 1"
    done = subprocess.run(
        ["sh", "-c", script], env=client.environment, capture_output=True, timeout=TIMEOUT, check=True
    )
    assert done.stdout.startswith(b"container ")
    assert done.stderr == b""


def test_stats(client: Client) -> None:
    measured = {each["id"]: each for each in json.loads(client.run("stats", "--json").stdout)["containers"]}
    assert measured.keys() == {"web", "web.side"}
    assert measured["web"]["memory_limit"] == 64 << 20
    assert measured["web"]["cpu"] >= 0
    title, line = client.lines("stats", "web.side")
    assert title.split()[:3] == ["container", "cpu", "memory"]
    assert line.split()[0] == "web.side"
    terminal = client.spawn("stats", "--watch", "--interval", "0.1")
    for _ in range(3):  # Each in the place of the one before.
        terminal.expect(r"64\.0 MB[^\x1b]*\x1b\[3A\x1b\[J")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)


def test_who_asks(agent: AgentProcess, run_directory: Path) -> None:
    (run_directory / "credentials").write_text("ops open-sesame\nweb hunter2\n")
    nobody_but_ops = [
        {"principals": {"values": ["ops"]}, "users": {"type": "ANY"}},
        {"principals": {"type": "ANY"}, "users": {"type": "NONE"}},
    ]
    agent.start(
        f"--http_credentials={run_directory}/credentials",
        "--authenticate_http_readonly",
        "--authenticate_http_readwrite",
        f"--acls={json.dumps({'kill_standalone_containers': nobody_but_ops})}",
    )
    url = f"http://{agent.host}:{agent.port}"
    client = Client(agent)
    hint = "; name a file with a principal and its secret by --credential"
    assert client.refused("ps") == f"{url}: it asks for credentials{hint}"
    for principal, secret in (("ops", "open-sesame"), ("web", "hunter2"), ("bad", "wrong")):
        file = run_directory / principal
        file.write_text(json.dumps({"principal": principal, "secret": secret}))
        file.chmod(0o600)
    bad = Client(agent, "--credential", str(run_directory / "bad"))
    assert bad.refused("ps") == f"{url}: the credentials are not those of any principal{hint}"
    web = Client(agent, "--credential", str(run_directory / "web"))
    assert web.lines("ps") == ["container  state"]
    assert web.refused("kill", "x") == f"x: {url} does not allow this for 'web'"
    ops = Client(agent, "--credential", str(run_directory / "ops"))
    assert ops.refused("kill", "x").startswith("there is no container 'x'")


def test_tls(agent: AgentProcess, certificates: Path) -> None:
    agent.start(env=secured(certificates, REQUIRE_CLIENT_CERT="true"))
    trusting = ("--ca-file", str(certificates / "ca.pem"))
    own = ("--cert", str(certificates / "agent.pem"), "--key", str(certificates / "agent.key"))
    assert Client(agent, *trusting, *own, scheme="https").lines("ps") == ["container  state"]
    refusal = Client(agent, scheme="https").refused("ps")
    assert "its certificate cannot be trusted: self-signed certificate" in refusal
    assert refusal.endswith("; name the file of its authority by --ca-file")
    assert f"https://{agent.host}:{agent.port}" in Client(agent, *trusting, scheme="https").refused("ps")


def test_a_unix_socket(agent: AgentProcess, run_directory: Path) -> None:
    agent.start(f"--operator_socket={run_directory}/operator.sock")
    assert Client(agent, "--agent", f"{run_directory}/operator.sock").lines("ps") == ["container  state"]


def test_files(client: Client, agent: AgentProcess, tmp_path: Path) -> None:
    script = (
        "echo hello; mkdir -p a/b; echo deep > a/b/deep; ln -s . loop; ln -s ../../../.. a/up; ln -s stdout link;"
        " ln -s /etc/shadow out; mkfifo pipe; printf x > run; chmod 755 run; printf y > $(printf 'odd\\033[2Jname')"
    )
    agent.launch("files", script)
    assert agent.wait_for("files")["exit_status"] == 0
    listed = client.lines("files", "ls", "files")
    names = [line.split()[-1] for line in listed[1:]]
    assert names == ["a/", "link@", "loop/@", "odd\\x1b[2Jname", "out@", "pipe", "run", "stderr", "stdout"]
    assert client.lines("files", "ls", "files", "a/b/deep")[1].endswith("  deep")
    assert client.lines("files", "cat", "fi", "stdout", "link", "a/b/deep") == ["hello", "hello", "deep"]
    assert client.refused("files", "cat", "files", "none") == "files: none: there is no such file"
    assert client.refused("files", "cat", "files", "pipe") == "files: pipe: Cannot read what is no regular file"
    assert client.refused("files", "cat", "files", "out") == "files: out: there is no such file"

    copied = tmp_path / "copied"
    done = client.run("files", "cp", "files", ".", str(copied))
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 4, "of the pipe, and the links that are not followed"
    assert {str(path.relative_to(copied)) for path in copied.rglob("*")} == {
        *("a", "a/b", "a/b/deep", "link", "odd\x1b[2Jname", "run", "stderr", "stdout"),
    }
    assert (copied / "link").read_text() == "hello\n"
    assert (copied / "run").stat().st_mode & 0o111
    assert client.lines("files", "cp", "files", "stdout", "a/b", str(copied / "a")) == []
    assert (copied / "a/b/deep").read_text() == "deep\n"
    assert client.lines("files", "cp", "files", "stdout", "/proc/self/fd/1") == ["hello"]


def test_shells_complete(client: Client, agent: AgentProcess, run_directory: Path) -> None:
    agent.launch("files", "mkdir data; touch data/one data/other; exec sleep 1000")
    program = run_directory / "mesocosm"
    program.write_text(f'#!/bin/sh\nexec {" ".join(MESOCOSM)} "$@"\n')
    program.chmod(0o755)
    environment = client.environment | {"PATH": f"{run_directory}:{os.environ['PATH']}", "PS1": "% "}
    shell = pexpect.spawn("bash", ["--norc", "-i"], timeout=TIMEOUT, encoding="utf-8", env=environment)
    shell.sendline("source <(mesocosm completion bash); bind 'set bell-style none'; echo rea''dy")
    shell.expect("ready")
    for typed, completed in (
        ("mesocosm ins\t", "inspect "),
        ("web.\t", "side "),
        ("--cr\t", "edential "),
        ("\x15mesocosm rm bat\t", "ch-1 "),
        ("\x15mesocosm files cat files da\t", "ta/"),
    ):
        shell.send(typed)
        shell.expect_exact(completed)
    shell.send("\x15exit\n")
    shell.expect(pexpect.EOF)
    assert client.lines("completion", "fish")
    assert "#compdef mesocosm" in client.run("completion", "zsh").stdout


def test_top(client: Client, agent: AgentProcess) -> None:
    agent.launch("busy", "while :; do :; done")
    program = client.spawn("top", "--interval", "0.2", columns=100, rows=20, TERM="linux", LC_ALL="C.UTF-8")
    screen = Screen(program, 20, 100)
    lines = screen.until("3 containers", "└─ side", "exec sleep 1000", "%")
    program.send("\x1b[C")
    lines = screen.until("cpu▾", "web.side")
    first = next(number for number, line in enumerate(lines) if line.startswith("container"))
    assert lines[first + 1].startswith("busy")
    screen.resize(12, 40)
    screen.until("% of ", "cpu▾")  # It has room for the ends of the bars again.
    program.send("r")
    screen.until("cpu▴")
    agent.stop()
    screen.until("no agent answers at http://")
    program.send("q")
    program.expect(pexpect.EOF)
    program.close()
    assert program.exitstatus == 0


def test_top_gives_the_terminal_back(client: Client) -> None:
    script = f"trap : INT; {' '.join(MESOCOSM)} top; echo status $?; stty -a | grep -o ' icanon'"
    shell = pexpect.spawn("sh", ["-c", script], timeout=TIMEOUT, encoding="utf-8", env=client.environment)
    shell.expect("2 containers")
    shell.sendintr()
    shell.expect("status 0.* icanon")
    shell.expect(pexpect.EOF)
    unknown = client.seen("top", TERM="nope")
    assert unknown == [
        "mesocosm: this terminal cannot be used: setupterm: could not find terminal; set TERM to what it is"
    ]
    assert client.refused("top") == "top needs a terminal; `mesocosm stats` does not"
