"""`--agent_subsystems`: the agent in cgroups of its own, from its start to its end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mesocosm.linux import cgroup
from tests.agent_process import AgentProcess

pytestmark = pytest.mark.kernel


def own_group(agent: AgentProcess, controller: str) -> Path:
    hierarchy = cgroup.hierarchy(controller)
    assert hierarchy is not None
    return Path(hierarchy.group(f"{agent.flags.cgroups_root}-agent"))


def test_the_agent_is_there_and_its_containers_are_not(agent: AgentProcess) -> None:
    groups = [own_group(agent, controller) for controller in ("memory", "pids")]
    agent.start("--agent_subsystems=memory,pids")
    assert agent.launch("c", "sleep 1000").status == 200
    for group in groups:
        assert agent.pid in cgroup.processes(str(group))
        assert set(members_of_c(agent)).isdisjoint(cgroup.processes(str(group)))
    assert members_of_c(agent)
    agent.stop()
    assert not any(group.exists() for group in groups)


def members_of_c(agent: AgentProcess) -> list[int]:
    """The processes in the cgroup of the container c."""
    hierarchy = cgroup.hierarchy("pids")
    assert hierarchy is not None
    return cgroup.processes(hierarchy.group(agent.flags.cgroups_root, "c"), recursive=True)


def test_a_killed_agent_is_followed_by_one_in_the_same_place(agent: AgentProcess) -> None:
    agent.start("--slave-subsystems=pids")
    agent.stop(signal.SIGKILL)
    agent.start("--agent-subsystems=pids")
    assert agent.pid in cgroup.processes(str(own_group(agent, "pids")))
    agent.stop()
    assert not own_group(agent, "pids").exists()


def test_a_controller_that_is_not_there(agent: AgentProcess) -> None:
    agent.spawn("--agent_subsystems=memory,nonesuch")
    assert agent.wait() == 125
    assert "--agent_subsystems: there is no cgroup controller 'nonesuch'" in agent.log.read_text()
    assert not own_group(agent, "memory").exists()
