"""Commands in containers of an agent, by terminals and pipes."""

from __future__ import annotations

import hashlib
import subprocess

import pexpect
import pytest

from tests.agent_process import AgentProcess
from tests.client_commands import Client
from tests.command_line import MESOCOSM

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
    assert client.refused("exec", "web", "nonesuch") == "the command 'nonesuch' cannot be executed: not found"
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


def test_a_command_ends_with_its_client(client: Client, agent: AgentProcess) -> None:
    argv = [*MESOCOSM, "exec", "web", "--", "sh", "-c", "echo begun; exec sleep 1000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=client.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        (session,) = set(client.lines("ps", "--quiet")) - {"web"}
        process.kill()
    client.run("wait", session)  # Of one that was forgotten already, nobody knows any more.
    assert client.lines("ps", "--quiet") == ["web"]


def say(shell: pexpect.spawn, command: str, answer: str) -> None:
    """Types a command, and waits for its answer in a line of its own."""
    shell.sendline(command)
    shell.expect(rf"\n{answer}\s")
