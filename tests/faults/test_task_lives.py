"""kill -9 of whoever has a part in the life of a task, at any time: each comes to one end, and nothing is left."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.agent_process import AgentProcess
from tests.faults.task_lives import Framework, TaskLives
from tests.faults.test_disk import fill

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.parametrize("seed", [11, 12])
def test_every_task_comes_to_one_end(agent: AgentProcess, seed: int) -> None:
    """A thousand take 11 minutes and more: see task_lives.py."""
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
        lives.start_agent("--executor_reregistration_timeout=15secs")
        assert agent.get("/metrics/snapshot").json["slave/recovery_time_secs"] < 15
        master.await_state(task, "TASK_FAILED")


def test_a_full_disk_makes_tasks_wait(agent: AgentProcess) -> None:
    """What cannot be put on record is not begun: it waits for room, or for its end."""
    meta = agent.flags.work_dir / "meta"
    meta.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", meta], check=True)
    try:
        with Framework() as master:
            lives = TaskLives(agent, master, 0)
            lives.start_agent("--executor_registration_timeout=8secs")
            master.await_agent()
            master.await_state(lives.begin("ends"), "TASK_FINISHED")
            fill(meta)
            given_up = lives.begin("ends")
            assert "did not register within 8secs" in master.await_state(given_up, "TASK_FAILED").message
            waiting = lives.begin("ends")
            agent.await_log(re.compile(rf"got the task {waiting}[^$]*No space left on device: .*: this is tried again"))
            assert master.states(waiting) == []
            (meta / "filler").unlink()
            master.await_state(waiting, "TASK_FINISHED")
    finally:
        agent.end()
        subprocess.run(["umount", "-l", meta], check=True)
