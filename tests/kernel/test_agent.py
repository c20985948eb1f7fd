"""The agent as a process: what it answers, and what becomes of its containers when it ends in one way or another."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.agent_process import AgentProcess, identity
from tests.command_line import TIMEOUT

pytestmark = pytest.mark.kernel


@pytest.fixture
def agent(agent: AgentProcess) -> AgentProcess:
    """The program itself, as an operator starts it."""
    agent.executed = True
    return agent


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
        assert agent.launch(name, "mkfifo go; read status < go; exit $status").status == 200
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


def test_sandboxes_that_are_old_are_removed(agent: AgentProcess) -> None:
    """One of an ended container, with what is known of that, and one that a boot of the machine has left alone."""
    agent.start()
    for name in ("x", "y"):
        assert agent.launch(name, "true").status == 200
        agent.wait_for(name)
    assert agent.stop() == 0
    shutil.rmtree(agent.flags.runtime_dir / "containers" / "y")
    agent.start("--gc_non_executor_container_sandboxes", "--gc_delay=0secs")
    await_(lambda: not agent.sandbox("x").exists() and not agent.sandbox("y").exists())
    await_(lambda: agent.call("WAIT_CONTAINER", container_id=identity("x")).status == 404)
    for name in ("y", "z"):
        assert agent.launch(name, "true").status == 200
        await_(lambda: not agent.sandbox(name).exists())  # noqa: B023 - it is called before the next round.


def await_(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds. The removal of a directory is no event that another process is told of."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
