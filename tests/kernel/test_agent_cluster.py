"""The agent in a cluster: with a small master that says what a real one said, over restarts, kills and refusals."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.api import internal, v1
from tests.agent_process import AgentProcess
from tests.command_line import TIMEOUT
from tests.master_standin import OBSERVER, Joined, MasterStandIn
from tests.tls import secured
from tests.unit.exchange import recorded_shapes, shape
from tests.zookeeper import zookeeper

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

FLAGS = ("--resources=cpus:2;mem:4096;disk:10000", "--attributes=rack:r1;zone:z", "--registration_backoff_factor=10ms")
CONTAINER = "6b3ab0d9-86f5-4d2c-a3a3-2f3c5a4c6a11"


@pytest.fixture
def master() -> Iterator[MasterStandIn]:
    with MasterStandIn() as standin:
        yield standin


def join(agent: AgentProcess, master: MasterStandIn, *more: str) -> Joined:
    agent.keeps_port = True
    agent.start(f"--master={master.address}", *FLAGS, *more)
    joined = master.await_agent()
    latest = agent.flags.work_dir / "meta/slaves/latest"
    deadline = time.monotonic() + TIMEOUT
    while not latest.is_symlink() or latest.readlink().name != joined.id:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # Until that is on the disk, one that is killed is another one afterwards.
    return joined


def refused(agent: AgentProcess, *arguments: str) -> str:
    """What an agent that ends by itself writes last."""
    agent.spawn(*arguments)
    assert agent.wait() == 125
    return agent.log.read_text().splitlines()[-1]


def test_an_agent_registers_as_a_real_one_does(agent: AgentProcess, master: MasterStandIn) -> None:
    joined = join(agent, master)
    master.ping()
    assert joined.address == f"slave(1)@127.0.0.1:{agent.port}"
    assert joined.info.port == agent.port
    registration = next(entry.message for entry in master.received)
    known = recorded_shapes(internal.RegisterSlaveMessage)[0]
    assert shape(registration) == known, "the keys and types of the recording"
    state = agent.get("/state").json
    assert state["id"] == joined.id
    assert [v1.AgentInfo.Capability.Type.Value(name) for name in state["capabilities"]] == sorted(joined.capabilities)


def test_an_agent_that_was_killed_comes_back_as_itself(agent: AgentProcess, master: MasterStandIn) -> None:
    joined = join(agent, master)
    agent.stop(signal.SIGKILL)
    master.forget()
    agent.start(f"--master={master.address}", *FLAGS)
    assert master.expect(internal.ReregisterSlaveMessage).slave.id.value == joined.id
    agent.stop()
    assert master.names().count("UnregisterSlaveMessage") == 0


def test_a_master_at_an_address_of_version_6(agent: AgentProcess) -> None:
    """The agent listens where that reaches it, and says so in its messages."""
    with MasterStandIn(host="::1") as master:
        agent.start(f"--master={master.address}", *FLAGS)
        joined = master.await_agent()
        assert joined.address == f"slave(1)@[::1]:{agent.port}"
        master.ping()
        task = v1.TaskInfo(name="t", task_id=v1.TaskID(value="t"), command=v1.CommandInfo(value="exit 0"))
        master.run_task(task)
        master.await_state("t", "TASK_FINISHED")


def test_a_master_that_speaks_tls(agent: AgentProcess, certificates: Path) -> None:
    """In both directions, and so do the executors; each proves who it is by a certificate for its address."""
    with MasterStandIn(certificates=certificates) as master:
        agent.start(f"--master={master.address}", *FLAGS, env=secured(certificates, VERIFY_SERVER_CERT="true"))
        assert master.await_agent().address == f"slave(1)@127.0.0.1:{agent.port}"
        master.ping()
        task = v1.TaskInfo(name="t", task_id=v1.TaskID(value="t"), command=v1.CommandInfo(value="exit 0"))
        master.run_task(task)
        master.await_state("t", "TASK_FINISHED")


def test_what_an_agent_may_have_become(agent: AgentProcess, master: MasterStandIn) -> None:
    joined = join(agent, master)
    agent.stop()
    more = "--resources=cpus:3;mem:4096;disk:10000"
    arguments = (f"--master={master.address}", *FLAGS[1:])
    last = refused(agent, *arguments, more)
    assert "--reconfiguration_policy=equal: the resources of the agent were cpus:2; mem:4096" in last
    assert "meta/slaves/latest" in last
    last = refused(agent, *arguments, "--reconfiguration_policy=additive", "--resources=cpus:1;mem:4096;disk:10000")
    assert "the resource cpus:2 has gone, or is less" in last
    agent.start(*arguments, "--reconfiguration_policy=additive", more)
    message = master.expect(internal.ReregisterSlaveMessage)
    assert message.slave.id.value == joined.id
    assert message.slave.resources[0].scalar.value == 3


def run_checkpointed_task(master: MasterStandIn) -> None:
    """Has the agent run the task `t`, which outlives it."""
    task = v1.TaskInfo(name="t", task_id=v1.TaskID(value="t"), command=v1.CommandInfo(value="sleep 1000"))
    framework = v1.FrameworkInfo()
    framework.CopyFrom(master.framework)
    framework.checkpoint = True
    master.run_task(task, framework)


def test_an_agent_has_more_while_its_tasks_run(agent: AgentProcess, master: MasterStandIn) -> None:
    joined = join(agent, master)
    run_checkpointed_task(master)
    master.await_state("t", "TASK_RUNNING")
    agent.stop()
    more = ("--reconfiguration_policy=additive", "--resources=cpus:3;mem:4096;disk:10000")
    agent.start(f"--master={master.address}", *FLAGS[1:], *more)
    message = master.expect(internal.ReregisterSlaveMessage)
    assert (message.slave.id.value, message.slave.resources[0].scalar.value) == (joined.id, 3)
    assert [each.task_id.value for each in message.tasks] == ["t"]
    master.kill_task("t")
    master.await_state("t", "TASK_KILLED")


def test_pings_while_the_agent_waits_for_its_executors(agent: AgentProcess, master: MasterStandIn) -> None:
    """It is not registered yet, and not gone."""
    joined = join(agent, master)
    run_checkpointed_task(master)
    init = master.await_state("t", "TASK_RUNNING").container_status.executor_pid
    (executor,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    agent.stop()
    master.expect(internal.PongSlaveMessage)
    os.kill(int(executor), signal.SIGSTOP)
    try:
        agent.spawn(f"--master={master.address}", *FLAGS, "--executor_reregistration_timeout=15secs")
        agent.await_log(re.compile("listening on"))
        deadline = time.monotonic() + TIMEOUT
        while not [entry for entry in master.received if isinstance(entry.message, internal.PongSlaveMessage)][1:]:
            assert time.monotonic() < deadline
            master.send(internal.PingSlaveMessage(connected=False), joined, OBSERVER)
        assert "recovered" not in agent.log.read_text()
    finally:
        os.kill(int(executor), signal.SIGCONT)
    assert master.expect(internal.ReregisterSlaveMessage).slave.id.value == joined.id
    master.kill_task("t")
    master.await_state("t", "TASK_KILLED")


@pytest.mark.parametrize("again", [False, True])
def test_an_agent_that_is_another_after_a_boot(agent: AgentProcess, master: MasterStandIn, again: bool) -> None:
    """It is a new one, also if it is started again before it has registered."""
    joined = join(agent, master)
    agent.stop()
    (agent.flags.work_dir / "meta/boot_id").write_text("another")
    more = "--resources=cpus:1;mem:4096;disk:10000"
    if again:
        address = master.address
        master.stop()
        agent.start(f"--master={address}", *FLAGS[1:], more)
        agent.await_log(re.compile("registers as a new one"))
        agent.stop()
        master.start()
    master.forget()
    agent.start(f"--master={master.address}", *FLAGS[1:], more)
    assert master.await_agent().id != joined.id
    master.ping()


def test_an_agent_that_ends_for_good_is_another_one_afterwards(agent: AgentProcess, master: MasterStandIn) -> None:
    joined = join(agent, master)
    assert agent.launch(CONTAINER, "sleep 1000").status == 200
    assert agent.stop(signal.SIGUSR1) == 0
    assert master.expect(internal.UnregisterSlaveMessage).slave_id.value == joined.id
    master.forget()
    assert join(agent, master).id != joined.id
    assert agent.recovered == 0


def test_a_master_has_the_agent_shut_down(agent: AgentProcess, master: MasterStandIn) -> None:
    """Which leaves containers that no framework has."""
    joined = join(agent, master)
    assert agent.launch(CONTAINER, "sleep 1000").status == 200
    master.send(internal.ShutdownMessage(message="it is old"))
    assert agent.wait() == 0
    assert "the master has the agent shut down: it is old" in agent.log.read_text()
    master.forget()
    assert join(agent, master).id != joined.id
    assert agent.recovered == 1


def test_an_agent_that_authenticates(agent: AgentProcess, run_directory: Path) -> None:
    credential = run_directory / "credential"
    credential.write_text("me secret\n")
    credential.chmod(0o600)
    with MasterStandIn({"me": "secret"}) as master:
        join(agent, master, f"--credential={credential}")
        agent.stop()
        credential.write_text("me other\n")
        last = refused(agent, f"--master={master.address}", *FLAGS, f"--credential={credential}")
        assert "does not accept 'me' and its secret" in last


def test_an_agent_follows_the_leader_that_zookeeper_knows(agent: AgentProcess, run_directory: Path) -> None:
    directory = run_directory / "zookeeper"
    directory.mkdir()
    with zookeeper(directory) as server, MasterStandIn() as first, MasterStandIn() as second:
        with server.master(f"master@{first.address}"):
            agent.start(f"--master=zk://{server.address}/mesos", "--zk_session_timeout=2secs", *FLAGS)
            joined = first.await_agent()
            with server.master(f"master@{second.address}"):
                first.ping()
        agent.await_log(re.compile("INFO mesocosm.master.link no master leads"))
        with server.master(f"master@{second.address}"):
            assert second.await_agent().id == joined.id
            agent.stop()


def test_the_agent_listens_where_the_master_reaches_it(agent: AgentProcess, master: MasterStandIn) -> None:
    assert "--master: 'nowhere.invalid' cannot be found" in refused(agent, "--master=nowhere.invalid:5050", *FLAGS)
    network = "ip link set lo up && ip address add 192.0.2.7/24 dev lo"
    agent.prefix = ("unshare", "--net", "sh", "-c", f'{network} && exec "$@"', "sh")
    agent.spawn("--master=192.0.2.8:5050", *FLAGS)
    agent.await_log(re.compile(r"listening on http://192\.0\.2\.7:\d+, the address that reaches the master"))
    agent.await_log(re.compile("looking for the leading master"))
    agent.stop()
    agent.prefix = ()
    join(agent, master)
    assert "so for this machine only" in agent.log.read_text()
