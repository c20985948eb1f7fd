"""The agent as a process: what it answers, and what becomes of its containers when it ends in one way or another."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.agent_process import AgentProcess, identity

pytestmark = pytest.mark.kernel


def test_a_container_from_launch_to_removal(agent: AgentProcess) -> None:
    agent.start()
    assert agent.launch("x", "echo out; echo err >&2; exit 3").status == 200
    assert agent.wait_for("x") == {"exit_status": 3 << 8}
    assert (agent.sandbox("x") / "stdout").read_text() == "out\n"
    assert agent.get("/files/read?path=/containers/x/stderr&offset=0").json == {"data": "err\n", "offset": 0}
    assert agent.wait_for("x") == {"exit_status": 3 << 8}
    assert agent.call("REMOVE_CONTAINER", container_id=identity("x")).status == 200
    assert not agent.sandbox("x").exists()
    assert agent.call("WAIT_CONTAINER", container_id=identity("x")).status == 404
    assert agent.get("/files/browse?path=/containers/x").status == 404


def test_containers_outlive_the_agent(agent: AgentProcess) -> None:
    agent.start()
    for name in ("x", "y"):
        assert agent.launch(name, f"mkfifo go; read status < go; exit $status").status == 200
    assert agent.launch("kid", "sleep 1000", nested_in="x").status == 200
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    (agent.sandbox("y") / "go").write_text("5\n")
    agent.start()
    assert agent.recovered in (2, 3)
    assert agent.wait_for("y") == {"exit_status": 5 << 8}
    assert {"x", "kid"} <= agent.containers().keys()
    assert agent.stop() == 0
    agent.start()
    (agent.sandbox("x") / "go").write_text("6\n")
    assert agent.wait_for("x") == {"exit_status": 6 << 8}
    assert agent.wait_for("y") == {"exit_status": 5 << 8}


def test_sigusr1_and_cleanup_leave_none(agent: AgentProcess) -> None:
    agent.start()
    assert agent.launch("x", "sleep 1000").status == 200
    assert agent.stop(signal.SIGUSR1) == 0
    agent.start()
    assert agent.containers() == {}
    assert agent.launch("y", "sleep 1000").status == 200
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    agent.spawn("--recover=cleanup")
    assert agent.wait() == 0
    agent.start()
    assert agent.containers() == {}


def test_a_second_agent_is_refused(agent: AgentProcess) -> None:
    agent.start()
    result = subprocess.run(agent.argv(), capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode != 0
    assert (
        result.stderr
        == f"mesocosm: --work_dir: {agent.flags.work_dir}/meta is in use by another process; give each one its own\n"
    )
