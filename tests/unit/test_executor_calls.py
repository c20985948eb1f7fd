"""What executors may say, as Mesos has it."""

from __future__ import annotations

import pytest

from mesocosm.agent.http.executor import validate_check_status
from mesocosm.agent.tasks.generated import executor_for
from mesocosm.api import v1

COMMAND, HTTP, TCP = v1.CheckInfo.COMMAND, v1.CheckInfo.HTTP, v1.CheckInfo.TCP


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (v1.CheckStatusInfo(), "CheckStatusInfo must specify 'type'"),
        (v1.CheckStatusInfo(type=v1.CheckInfo.UNKNOWN), "'UNKNOWN' is not a valid check's status type"),
        (v1.CheckStatusInfo(type=COMMAND), "Expecting 'command' to be set for COMMAND check's status"),
        (v1.CheckStatusInfo(type=HTTP), "Expecting 'http' to be set for HTTP check's status"),
        (v1.CheckStatusInfo(type=TCP, http={}), "Expecting 'tcp' to be set for TCP check's status"),
        (v1.CheckStatusInfo(type=TCP, tcp={}), None),
    ],
)
def test_the_answer_of_a_check_says_of_which_kind_it_is(status: v1.CheckStatusInfo, reason: str | None) -> None:
    assert validate_check_status(status) == reason


def test_the_executor_of_a_command_is_that_of_mesos() -> None:
    """With what its container is, and nothing of the command but who runs it, and what that needs."""
    resource = v1.Resource(name="cpus", type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=0.5))
    resource.allocation_info.role = "web"
    network = v1.NetworkInfo(name="net")
    task = v1.TaskInfo(
        name="name",
        task_id=v1.TaskID(value="t"),
        agent_id=v1.AgentID(value="S0"),
        resources=[resource],
        command=v1.CommandInfo(shell=False, value="/bin/echo", arguments=["/bin/echo", "--author"], user="nobody"),
        container=v1.ContainerInfo(type=v1.ContainerInfo.MESOS, network_infos=[network]),
        labels=v1.Labels(labels=[v1.Label(key="k", value="v")]),
        kill_policy=v1.KillPolicy(grace_period=v1.DurationInfo(nanoseconds=10**9)),
    )
    task.command.environment.variables.add(name="A", value="b")
    info = executor_for(task, v1.FrameworkID(value="f"))
    command = info.command
    assert (command.value, list(command.arguments), command.user) == ("mesos-executor", ["mesos-executor"], "nobody")
    assert command.environment == task.command.environment
    assert (info.executor_id.value, info.source, info.framework_id.value) == ("t", "t", "f")
    assert (info.container, info.labels) == (task.container, task.labels)
    assert {each.name: each.scalar.value for each in info.resources} == {"cpus": 0.1, "mem": 32}
    assert {each.allocation_info.role for each in info.resources} == {"web"}
    assert info.shutdown_grace_period.nanoseconds == 3 * 10**9
