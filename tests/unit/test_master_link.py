"""The agent's bond with its master, a small one that says what a real one said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.message import Message

from mesocosm.api import internal, v1
from mesocosm.errors import MasterError
from mesocosm.libprocess.address import ActorAddress, host_name
from mesocosm.master.authentication import Patience
from mesocosm.master.base import Reregistration
from mesocosm.version import MESOS_VERSION
from tests.master_standin import MasterStandIn
from tests.unit.exchange import recorded_shapes, shape
from tests.unit.linking import RecordedTasks, linked

KILL = internal.KillTaskMessage(framework_id=v1.FrameworkID(value="f"), task_id=v1.TaskID(value="t"))


@pytest.fixture
def master() -> Iterator[MasterStandIn]:
    with MasterStandIn() as standin:
        yield standin


async def call(do: Callable[..., Any], *arguments: Any) -> Any:
    """Does what waits, in a thread."""
    return await asyncio.to_thread(do, *arguments)


def sent(master: MasterStandIn, kind: type[Message]) -> list[Any]:
    return [entry.message for entry in master.received if isinstance(entry.message, kind)]


async def test_registration_is_that_of_a_real_agent(master: MasterStandIn) -> None:
    async with linked(master.address, tasks := RecordedTasks()) as agent:
        joined = await call(master.await_agent)
        await call(master.expect, internal.PongSlaveMessage)
        assert joined.info.checkpoint
        assert joined.address == str(agent.address)
        said = dict.fromkeys((entry.actor, type(entry.message).__name__) for entry in master.received)
        assert list(said) == [  # Each once, or more often where the first answer took its time.
            ("master", "RegisterSlaveMessage"),
            ("master", "UpdateSlaveMessage"),
            ("slave-observer(1)", "PongSlaveMessage"),
        ]
        for entry in master.received:
            assert shape(entry.message) in recorded_shapes(type(entry.message)), type(entry.message)
            assert entry.headers["User-Agent"] == f"libprocess/{agent.address}"
        assert sent(master, internal.RegisterSlaveMessage)[0].version == MESOS_VERSION
        assert agent.link.master == ActorAddress.parse(f"master@{master.address}")
        assert tasks.slave is not None
        assert tasks.slave.id.value == joined.id
        await agent.until(lambda: agent.link.master_hostname is not None)
        assert agent.link.master_hostname == await host_name("127.0.0.1")


async def test_registration_is_repeated_until_it_is_answered(master: MasterStandIn) -> None:
    master.registers = False
    async with linked(master.address, RecordedTasks()):
        for _ in range(3):
            await call(master.expect, internal.RegisterSlaveMessage)
        master.registers = True
        await call(master.await_agent)


async def test_a_second_answer_to_it_changes_nothing(master: MasterStandIn) -> None:
    async with linked(master.address, tasks := RecordedTasks()) as agent:
        joined = await call(master.await_agent)
        await call(master.send, internal.SlaveRegisteredMessage(slave_id=v1.AgentID(value=joined.id)))
        await call(master.ping)
        assert tasks.events == ["connected"]
        assert not agent.running.done()


async def test_an_agent_that_gets_another_id_ends(master: MasterStandIn) -> None:
    async with linked(master.address, RecordedTasks()) as agent:
        await call(master.await_agent)
        await call(master.send, internal.SlaveRegisteredMessage(slave_id=v1.AgentID(value="other")))
        with pytest.raises(MasterError, match="calls the agent other"):
            await agent.running


async def test_what_the_master_asks_is_done_in_order(master: MasterStandIn) -> None:
    async with linked(master.address, tasks := RecordedTasks()):
        await call(master.await_agent)
        kills = [internal.KillTaskMessage(framework_id=KILL.framework_id, task_id={"value": str(n)}) for n in range(20)]
        for kill in kills:
            await call(master.send, kill)
        await call(master.ping)
        assert tasks.asked == kills


async def test_nobody_else_is_obeyed(master: MasterStandIn) -> None:
    """Neither other processes nor other actors of the master's, whatever they ask."""
    with MasterStandIn() as other:
        async with linked(master.address, tasks := RecordedTasks()) as agent:
            joined = await call(master.await_agent)
            for message in (KILL, internal.ShutdownMessage(), internal.SlaveRegisteredMessage(slave_id={"value": "x"})):
                assert await call(other.post, joined.address, message) == 202
                assert await call(master.post, joined.address, message, "scheduler-1") == 202
            assert await call(other.post, joined.address, internal.PingSlaveMessage(connected=False)) == 202
            await call(master.ping)
            assert tasks.asked == []
            assert tasks.events == ["connected"]
            assert not agent.running.done()
            assert other.received == []


async def test_nothing_is_done_before_the_registration(master: MasterStandIn) -> None:
    master.registers = False
    async with linked(master.address, tasks := RecordedTasks()) as agent:
        await call(master.expect, internal.RegisterSlaveMessage)
        assert await call(master.post, str(agent.address), KILL) == 202
        assert tasks.asked == []


async def test_updates_go_to_the_master(master: MasterStandIn) -> None:
    async with linked(master.address, tasks := RecordedTasks()):
        await call(master.await_agent)
        assert tasks.send is not None
        tasks.send(
            internal.ExitedExecutorMessage(
                slave_id={"value": "a"}, framework_id={"value": "f"}, executor_id={"value": "e"}, status=0
            )
        )
        assert (await call(master.expect, internal.ExitedExecutorMessage)).executor_id.value == "e"


async def test_an_agent_without_pings_registers_again() -> None:
    tasks = RecordedTasks()
    tasks.known = Reregistration(
        frameworks=(v1.FrameworkInfo(user="root", name="f", id=v1.FrameworkID(value="f")),),
        tasks=(
            v1.Task(
                name="t",
                task_id=v1.TaskID(value="t"),
                framework_id=v1.FrameworkID(value="f"),
                agent_id=v1.AgentID(value="a"),
                state=v1.TASK_RUNNING,
            ),
        ),
    )
    with MasterStandIn(ping_timeout=0.2) as master:
        async with linked(master.address, tasks):
            joined = await call(master.await_agent)
            message = await call(master.expect, internal.ReregisterSlaveMessage)
            assert message.slave.id.value == joined.id
            assert (tuple(message.frameworks), tuple(message.tasks)) == (tasks.known.frameworks, tasks.known.tasks)
            assert tasks.events[:2] == ["connected", "disconnected"]
            (first, *_) = sent(master, internal.RegisterSlaveMessage)
            assert message.resource_version_uuid == first.resource_version_uuid


async def test_an_agent_whose_pings_end_registers_again() -> None:
    with MasterStandIn(ping_timeout=0.5) as master:
        async with linked(master.address, tasks := RecordedTasks()):
            await call(master.await_agent)
            for _ in range(8):
                await call(master.ping)
                await asyncio.sleep(0.1)
            assert tasks.events == ["connected"]
            await call(master.expect, internal.ReregisterSlaveMessage)


async def test_an_agent_that_the_master_has_lost_registers_again(master: MasterStandIn) -> None:
    async with linked(master.address, tasks := RecordedTasks()) as agent:
        await call(master.await_agent)
        await call(master.send, internal.PingSlaveMessage(connected=False), None, "slave-observer(1)")
        await call(master.expect, internal.ReregisterSlaveMessage)
        await agent.until(lambda: tasks.events == ["connected", "disconnected", "connected"])


async def test_an_agent_that_comes_back_is_the_same(master: MasterStandIn) -> None:
    """And tasks that the master believes to be there are told to who knows."""
    tasks = RecordedTasks()
    async with linked(master.address, tasks) as agent:
        joined = await call(master.await_agent)
        port = agent.address.port
    async with linked(master.address, tasks, port=port):
        message = await call(master.expect, internal.ReregisterSlaveMessage)
        assert message.slave == tasks.slave
        lost = internal.ReconcileTasksMessage(framework_id={"value": "f"})
        reply = internal.SlaveReregisteredMessage(slave_id={"value": joined.id}, reconciliations=[lost])
        await call(master.send, reply)
        assert tasks.asked == [lost]


class Choice:
    """A detector whose leader a test says."""

    def __init__(self, leader: str | None) -> None:
        self.leader = leader
        self.changed = asyncio.Event()

    def lead(self, leader: str | None) -> None:
        self.leader = leader
        self.changed.set()

    async def reachable(self) -> str:
        return "127.0.0.1"

    async def detect(self, previous: ActorAddress | None) -> ActorAddress | None:
        while True:
            leader = None if self.leader is None else ActorAddress.parse(f"master@{self.leader}")
            if leader != previous:
                return leader
            self.changed.clear()
            await self.changed.wait()

    async def close(self) -> None:
        pass


async def test_another_leader_is_registered_with_and_the_last_one_no_longer_obeyed(
    master: MasterStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    choice = Choice(master.address)
    with MasterStandIn() as second:
        async with linked(choice, tasks := RecordedTasks()) as agent:
            joined = await call(master.await_agent)
            choice.lead(second.address)
            assert (await call(second.await_agent)).id == joined.id
            await call(master.post, joined.address, KILL)
            await call(second.send, KILL)
            assert tasks.asked == [KILL]
            choice.lead(None)
            await agent.until(lambda: agent.link.master is None)
            await call(second.post, joined.address, KILL)
            assert tasks.asked == [KILL]
            choice.lead(second.address)
            await call(second.expect, internal.ReregisterSlaveMessage)
            await call(second.expect, internal.ReregisterSlaveMessage)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    said = [line for line in said if "lead" in line]
    assert said[:1] + said[-2:] == [
        "looking for the leading master",
        "no master leads",
        f"the leading master is master@{second.address}",
    ]


async def test_a_master_that_comes_back_knows_the_agent_again(master: MasterStandIn) -> None:
    master.ping_timeout = 0.2
    async with linked(master.address, RecordedTasks()):
        joined = await call(master.await_agent)
        await call(master.stop)
        master.forget()
        await call(master.start)
        assert (await call(master.await_agent)).id == joined.id


async def test_the_master_has_the_agent_shut_down(master: MasterStandIn) -> None:
    async with linked(master.address, RecordedTasks()) as agent:
        await call(master.await_agent)
        await call(master.send, internal.ShutdownMessage(message="it is old"))
        assert await agent.running == "it is old"


async def test_an_agent_that_ends_for_good_says_so(master: MasterStandIn) -> None:
    async with linked(master.address, RecordedTasks()) as agent:
        joined = await call(master.await_agent)
        await agent.link.unregister()
        assert (await call(master.expect, internal.UnregisterSlaveMessage)).slave_id.value == joined.id


async def test_an_agent_whose_record_cannot_be_written_ends(master: MasterStandIn) -> None:
    class Full(RecordedTasks):
        def connect(self, *_: Any) -> None:
            raise OSError("no space")

    async with linked(master.address, Full()) as agent:
        with pytest.raises(OSError, match="no space"):
            await agent.running


# Authentication.


async def test_who_authenticates_is_registered() -> None:
    with MasterStandIn({"me": "secret"}) as master:
        async with linked(master.address, RecordedTasks()):
            await call(master.expect, internal.RegisterSlaveMessage)
            await call(master.expect, internal.RegisterSlaveMessage)
            assert master.agents == {}
        async with linked(master.address, RecordedTasks(), credential=("me", "secret")) as agent:
            assert (await call(master.await_agent)).address == str(agent.address)
            start = await call(master.expect, internal.AuthenticationStartMessage)
            assert start.mechanism == "CRAM-MD5"
            assert (await call(master.expect, internal.AuthenticateMessage)).pid == str(agent.address)


@pytest.mark.parametrize("credential", [("me", "wrong"), ("you", "secret")])
async def test_who_is_refused_ends(credential: tuple[str, str]) -> None:
    with MasterStandIn({"me": "secret"}) as master:
        async with linked(master.address, RecordedTasks(), credential=credential) as agent:
            with pytest.raises(MasterError, match="does not accept") as caught:
                await agent.running
            assert "wrong" not in str(caught.value)
            assert sent(master, internal.RegisterSlaveMessage) == []


async def test_an_attempt_that_is_not_answered_is_repeated() -> None:
    with MasterStandIn({"me": "secret"}) as master:
        master.authenticates = False
        async with linked(
            master.address, RecordedTasks(), credential=("me", "secret"), patience=Patience(0.05, 0.2, 0.01)
        ):
            await call(master.expect, internal.AuthenticateMessage)
            await call(master.expect, internal.AuthenticateMessage)
            master.authenticates = True
            await call(master.await_agent)
            names = [
                entry.sender for entry in master.received if isinstance(entry.message, internal.AuthenticateMessage)
            ]
            assert len(set(names)) == len(names)


@pytest.mark.parametrize("lost", [internal.AuthenticationStartMessage, internal.AuthenticationStepMessage])
async def test_a_dialogue_that_breaks_off_is_begun_anew(lost: type[Message]) -> None:
    with MasterStandIn({"me": "secret"}) as master:
        master.ignored.add(lost)
        async with linked(master.address, RecordedTasks(), credential=("me", "secret"), patience=Patience(0.2, 0.2, 0)):
            await call(master.expect, lost)
            master.ignored.clear()
            await call(master.await_agent)
            assert master.names().count("AuthenticateMessage") > 1


async def test_another_leader_is_authenticated_with_instead() -> None:
    with MasterStandIn({"me": "secret"}) as first, MasterStandIn({"me": "secret"}) as second:
        first.ignored.add(internal.AuthenticationStepMessage)
        choice = Choice(first.address)
        async with linked(choice, RecordedTasks(), credential=("me", "secret")):
            await call(first.expect, internal.AuthenticationStepMessage)
            choice.lead(second.address)
            await call(second.await_agent)


async def test_another_process_cannot_say_that_all_is_done() -> None:
    with MasterStandIn({"me": "secret"}) as master, MasterStandIn() as other:
        master.authenticates = False
        async with linked(master.address, RecordedTasks(), credential=("me", "secret")):
            await call(master.expect, internal.AuthenticateMessage)
            target = master.received[0].sender
            await call(other.post, target, internal.AuthenticationStepMessage(data=b"<challenge>"))
            await call(other.post, target, internal.AuthenticationCompletedMessage())
            assert other.received == []
            assert sent(master, internal.RegisterSlaveMessage) == []


@pytest.mark.parametrize(
    "answer",
    [
        internal.AuthenticationMechanismsMessage(mechanisms=["PLAIN"]),
        internal.AuthenticationCompletedMessage(),
        internal.AuthenticationErrorMessage(error="it is late"),
    ],
)
async def test_what_goes_wrong_is_tried_again(answer: Message) -> None:
    with MasterStandIn({"me": "secret"}) as master:
        master.authenticates = False
        async with linked(master.address, RecordedTasks(), credential=("me", "secret"), patience=Patience(0.5, 0.5, 0)):
            await call(master.expect, internal.AuthenticateMessage)
            target = master.received[0].sender
            assert await call(master.post, target, answer, "crammd5-authenticator-session(1)") == 202
            master.authenticates = True
            await call(master.await_agent)


def test_the_time_that_an_attempt_has_doubles() -> None:
    patience = Patience(5, 60, 1)
    assert [patience.limit(attempt) for attempt in range(7)] == [7, 9, 13, 21, 37, 60, 60]
    assert all(5 <= patience.choose(3) <= 21 for _ in range(100))


async def test_the_log_says_nothing_of_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with MasterStandIn({"me": "hidden-secret"}) as master:
        async with linked(master.address, RecordedTasks(), credential=("me", "hidden-secret")):
            await call(master.await_agent)
    assert "hidden-secret" not in caplog.text
