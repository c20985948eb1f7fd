"""kill -9 of whoever has a part in the life of a task, at any time: each comes to one end, and nothing is left."""

from __future__ import annotations

import signal

import pytest

from tests.agent_process import AgentProcess
from tests.faults.task_lives import Framework, TaskLives

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.parametrize("seed", [11, 12])
def test_every_task_comes_to_one_end(agent: AgentProcess, seed: int) -> None:
    """A thousand are for a longer evening: see task_lives.py."""
    with Framework() as master:
        TaskLives(agent, master, seed).live(15)


def test_an_executor_that_has_ended_is_not_waited_for(agent: AgentProcess) -> None:
    with Framework() as master:
        lives = TaskLives(agent, master, 0)
        lives.start_agent()
        master.await_agent()
        task = lives.begin("sleeps")
        master.await_state(task, "TASK_RUNNING")
        agent.stop(signal.SIGKILL)
        assert lives.kill_in_container(0)
        lives.start_agent("--executor_reregistration_timeout=10mins")
        master.await_state(task, "TASK_FAILED")
