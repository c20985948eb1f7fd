"""Many clients of one container, of which one does not read what it is sent."""

from __future__ import annotations

import hashlib
import json
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess
from tests.attaching import attached, followed

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

CLIENTS = 200
LENGTH = 100 << 20
PATIENCE = 300
"""Seconds for 20 GB, which take 35 s of CPU time."""
MEMORY = 64 << 10
"""Kilobytes of the agent's memory for all of them: less than is printed, and much less than what waits for clients."""


def peak(agent: AgentProcess) -> int:
    """Kilobytes that it had at most."""
    fields = dict(entry.split(":", 1) for entry in Path(f"/proc/{agent.pid}/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0])


def test_all_who_keep_up_get_all_of_it(agent: AgentProcess) -> None:
    agent.start()
    assert agent.launch("x", f"mkfifo go; echo before; cat go; seq 100000000 | head -c {LENGTH}").status == 200
    with followed(agent, "/containers/x/stdout", offset=0) as stream:
        assert stream.read1() == b"before\n"
    before = peak(agent)
    argv = [sys.executable, "-m", "tests.crowd", agent.host, str(agent.port), "x", str(CLIENTS)]
    with attached(agent, "x") as stalled, subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "attached\n"
        (agent.sandbox("x") / "go").write_text("")
        ends = json.loads(crowd.stdout.readline())
        poll = select.poll()
        poll.register(stalled.response.fileno(), 0)  # Of errors it tells unasked.
        assert [event for _, event in poll.poll(PATIENCE * 1000)] == [select.POLLERR | select.POLLHUP]
    assert peak(agent) - before < MEMORY
    with (agent.sandbox("x") / "stdout").open("rb") as printed:
        assert printed.readline() == b"before\n"
        assert ends == {f"{hashlib.sha256(printed.read()).hexdigest()} {LENGTH}": CLIENTS}
    assert agent.wait_for("x")["exit_status"] == 0
