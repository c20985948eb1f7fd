"""Commands in containers of an agent, by terminals and pipes: `exec`, `attach`, `run --agent`."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time

import pexpect
import pytest

from tests.agent_process import AgentProcess
from tests.client_commands import Client
from tests.command_line import MESOCOSM, TIMEOUT, children

pytestmark = pytest.mark.kernel

_LINES = "".join(f"{number}\n" for number in range(100_000)).encode()


@pytest.fixture
def client(agent: AgentProcess) -> Client:
    """Of an agent with the container `web`."""
    agent.start()
    agent.launch("web", ["sleep", "1000"])
    return Client(agent)


def test_exec_by_pipes(client: Client, agent: AgentProcess) -> None:
    done = client.run("exec", "we", "--", "sh", "-c", "echo out; echo err >&2; cat; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert client.run("exec", "web", "--", "sh", "-c", "kill -9 $$").returncode == 137
    assert client.lines("exec", "-e", "A=b", "-u", "nobody", "web", "sh", "-c", "echo $A; id -un") == ["b", "nobody"]
    agent.launch("nobodys", "exec sleep 1000", command={"user": "nobody"})
    assert client.lines("exec", "nobodys", "id", "-un") == ["nobody"], "as the container"
    agent.launch("ended", "exit 0")
    agent.wait_for("ended")
    assert client.refused("exec", "ended", "true") == "ended has ended already"
    copied = client.pipe(_LINES, "exec", "-i", "web", "cat")
    assert hashlib.sha256(copied).digest() == hashlib.sha256(_LINES).digest()
    for command, status, reason in (("nonesuch", 127, "not found"), ("/etc/passwd", 126, "Permission denied")):
        done = client.run("exec", "web", command)
        refusal = f"mesocosm: the command '{command}' cannot be executed: {reason}\n"
        assert (done.returncode, done.stdout, done.stderr) == (status, "", refusal)
    assert client.refused("exec", "nope", "true").startswith("there is no container 'nope'")
    assert client.refused("exec", "web").startswith("missing argument")
    assert client.lines("ps", "--all", "--quiet") == ["web", "nobodys", "ended"]


def test_exec_by_a_terminal(client: Client) -> None:
    shell = client.spawn("exec", "-it", "web", "--", "sh", rows=31, columns=97, PS1="> ")
    say(shell, "stty size", "31 97")
    shell.setwinsize(20, 60)
    say(shell, "stty size; tty", r"20 60\s+/dev/pts/\d+")
    shell.sendline("trap 'echo caught' INT; sleep 1000")
    shell.expect("sleep 1000")
    shell.sendintr()
    shell.expect(r"caught|\^C")
    say(shell, "echo $TERM; exit 9", "xterm")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 9
    again = client.spawn("exec", "-it", "web", "--", "sh", "-c", "echo ready; cat; exit 4")
    again.expect("ready")
    again.sendeof()
    again.expect(pexpect.EOF)
    again.close()
    assert again.exitstatus == 4
    assert client.lines("ps", "--all", "--quiet") == ["web"]


def test_programs_of_the_whole_screen_and_jobs(client: Client, agent: AgentProcess) -> None:
    shell = client.spawn("exec", "-it", "web", "--", "sh", rows=24, columns=80)
    shell.sendline("busybox vi letter")
    shell.expect("- letter")  # It throws away what was typed before.
    shell.send("ihello from vi")
    shell.expect("hello from vi")
    shell.send("\x1b")
    shell.expect("- letter")
    shell.send(":wq\r")
    shell.expect("1L, 14C")
    say(shell, "cat letter", "hello from vi")
    shell.sendline("busybox top")
    shell.expect("Mem: .*COMMAND")
    shell.send("q")
    say(shell, "echo back", "back")
    shell.sendline("sleep 1000")
    shell.expect("sleep 1000")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect("# ")
    shell.sendline("fg")
    shell.expect("sleep 1000")
    shell.sendintr()
    say(shell, "echo $(jobs | wc -l) left", "0 left")
    shell.sendeof()
    shell.expect(pexpect.EOF)
    assert (agent.sandbox("web") / "letter").read_text() == "hello from vi\n"


def test_a_command_ends_with_its_client(client: Client, agent: AgentProcess) -> None:
    argv = [*MESOCOSM, "exec", "web", "--", "sh", "-c", "echo begun; exec sleep 1000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=client.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        (session,) = set(client.lines("ps", "--quiet")) - {"web"}
        process.kill()
    client.run("wait", session)  # It may be forgotten already.
    deadline = time.monotonic() + TIMEOUT
    while client.lines("ps", "--all", "--quiet") != ["web"]:  # It is removed just after it has ended.
        assert time.monotonic() < deadline


def test_a_terminal_is_given_back(client: Client, agent: AgentProcess) -> None:
    script = f"{' '.join(MESOCOSM)} exec -it web -- sh; echo status $?; stty -a | grep -o ' icanon'"
    for by_signal, status in ((True, 143), (False, 125)):
        shell = pexpect.spawn("sh", ["-c", script], timeout=TIMEOUT, encoding="utf-8", env=client.environment)
        shell.expect("# ")
        if by_signal:
            (pid,) = children(shell.pid)
            os.kill(pid, signal.SIGTERM)
        else:
            agent.stop(signal.SIGKILL)
            shell.expect("the connection to .* is lost")
        shell.expect(rf"status {status}\s+icanon")
        shell.expect(pexpect.EOF)


def test_run(client: Client, agent: AgentProcess) -> None:
    there = ("run", "--agent", client.environment["MESOCOSM_AGENT"])
    done = client.run(*there, "-e", "A=b", "--", "sh", "-c", "echo $A; echo err >&2; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, "b\n", "err\n")
    many = subprocess.run(
        [*MESOCOSM, *there, "--", "seq", "0", "99999"], env=client.environment, capture_output=True, check=True
    )
    assert many.stdout == _LINES
    assert client.pipe(_LINES, *there, "-i", "--", "cat") == _LINES
    limited = client.run(*there, "--mem", "32MB", "--", "tail", "/dev/zero")
    assert limited.returncode == 137
    assert limited.stderr.startswith("mesocosm: Memory limit exceeded: Requested: 32MB")
    assert client.run(*there, "--timeout", "0.5", "--", "sleep", "1000").returncode == 124
    missing = client.run(*there, "--", "nonesuch")
    assert (missing.returncode, missing.stderr) == (
        127,
        "mesocosm: the command 'nonesuch' cannot be executed: not found\n",
    )
    assert client.refused(*there, "--rootfs", "/", "true").startswith("--rootfs does not go with --agent")
    assert client.refused(*there, "--name", "web", "true").endswith(
        "has a container 'web' already; choose another --name"
    )
    assert client.refused(*there, "-d", "--timeout", "1", "true").startswith("--timeout does not go with --detach")
    assert client.refused(*there, "--image", "x", "--pull", "nope").startswith("--pull: 'nope'")
    assert client.refused("run", "--detach", "true").startswith("--detach goes with --agent")
    assert client.lines(*there, "--detach", "--name", "bg", "--", "sh", "-c", "exit 5") == ["bg"]
    assert client.run("wait", "bg").returncode == 5
    assert client.lines("ps", "--all", "--quiet") == ["web", "bg"]


def test_an_agent_that_is_started_anew_is_waited_for(client: Client, agent: AgentProcess) -> None:
    script = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.1; done; read x < go; exit 6"
    argv = [*MESOCOSM, "run", "--agent", client.environment["MESOCOSM_AGENT"], "--name", "long", "--", "sh", "-c"]
    with subprocess.Popen([*argv, f"mkfifo go; {script}"], stdout=subprocess.PIPE, env=client.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        agent.stop(signal.SIGKILL)
        agent.keeps_port = True
        agent.start()
        (agent.sandbox("long") / "go").write_text("go\n")
        assert process.stdout.read() == b"".join(b"%d\n" % number for number in range(1, 20))
        assert process.wait(TIMEOUT) == 6


def test_signals_of_a_run(client: Client, agent: AgentProcess) -> None:
    script = "trap 'echo term; exit 6' TERM; echo begun; while :; do sleep 0.1; done"
    argv = [*MESOCOSM, "run", "--agent", client.environment["MESOCOSM_AGENT"], "--", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=client.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"term\n"
        assert process.wait(TIMEOUT) == 6
    assert client.lines("ps", "--all", "--quiet") == ["web"]


def test_attach(client: Client, agent: AgentProcess) -> None:
    there = ("run", "--agent", client.environment["MESOCOSM_AGENT"])
    shell = client.spawn(*there, "-it", "--name", "shell", "--", "sh", rows=31, columns=97)
    say(shell, "x=5; stty size", "31 97")
    shell.send("\x10\x11")
    shell.expect("mesocosm: detached from shell, which goes on")
    shell.expect(pexpect.EOF)
    agent.stop()
    agent.keeps_port = True
    agent.start()
    again = client.spawn("attach", "sh", rows=20, columns=60)
    say(again, "echo $x; stty size", r"5\s+20 60")
    looking = client.spawn("attach", "--no-stdin", "shell")
    refused = client.spawn("attach", "shell")
    again.sendline("while sleep 0.2; do echo tick; done &")
    looking.expect("tick")
    refused.expect("mesocosm: nothing can be typed: Multiple input connections are not allowed")
    again.sendline("echo al''l; exit 4")
    for each in (again, looking, refused):
        each.expect(r"\nall\s")
        each.expect(pexpect.EOF)
        each.close()
        assert each.exitstatus == 4
    agent.launch("plain", "sleep 2; echo out; echo err >&2; exit 3")
    done = client.run("attach", "plain")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    client.lines(*there, "-d", "-i", "--name", "reader", "--", "sh", "-c", "cat; exit 0")
    assert client.pipe(b"to it\n", "attach", "reader") == b"to it\n"
    assert client.refused("attach", "plain") == "plain has ended already"


def say(shell: pexpect.spawn, command: str, answer: str) -> None:
    """Types a command, and waits for its answer in a line of its own."""
    shell.sendline(command)
    shell.expect(rf"\n{answer}\s")
