"""POST /api/v1/executor: formats, status codes and their texts. The executor is played by the test itself."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mesocosm.agent.tasks import links
from mesocosm.api import recordio, v1
from mesocosm.api.json import from_json
from mesocosm.api.v1.executor import Call, Event
from mesocosm.flags import Flags
from tests.task_agent import FRAMEWORK_ID, Master, executor_info, running_agent, task_info

pytestmark = pytest.mark.kernel

JSON, PROTOBUF = "application/json", "application/x-protobuf"
IDS = {"framework_id": {"value": FRAMEWORK_ID}, "executor_id": {"value": "shell"}}
SUBSCRIBE = {**IDS, "type": "SUBSCRIBE", "subscribe": {}}
SILENT = executor_info(script="sleep 1000")


class Client:
    """Calls in JSON, if nothing else is said."""

    def __init__(self, session: aiohttp.ClientSession, master: Master) -> None:
        self._session = session
        self._url = f"http://{master.agent.tasks.registration.address.authority}/slave(1)/api/v1/executor"

    async def post(self, call: Any, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        data = call if isinstance(call, bytes) else json.dumps(call).encode()
        chosen = {"Content-Type": JSON} if headers is None else headers
        skipped = ("Content-Type", "Accept")
        async with self._session.post(self._url, data=data, headers=chosen, skip_auto_headers=skipped) as answer:
            return answer.status, await answer.text()

    async def get(self) -> int:
        async with self._session.get(self._url) as answer:
            return answer.status

    @asynccontextmanager
    async def subscribed(self, call: Any = SUBSCRIBE, **headers: str) -> AsyncIterator[Events]:
        chosen = {"Content-Type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = call if isinstance(call, bytes) else json.dumps(call).encode()
        skipped = ("Content-Type", "Accept")
        async with self._session.post(self._url, data=data, headers=chosen, skip_auto_headers=skipped) as answer:
            assert answer.status == 200
            yield Events(answer)


class Events:
    """What comes in a stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.content_type = answer.content_type
        self._content = answer.content
        self._decoder = recordio.Decoder()
        self._records: list[bytes] = []

    async def next(self) -> Event | None:
        while not self._records:
            if not (data := await self._content.readany()):
                return None
            self._records += self._decoder.feed(data)
        record = self._records.pop(0)
        if self.content_type == JSON:
            return from_json(json.loads(record), Event)
        return Event.FromString(record)


@asynccontextmanager
async def client_of(master: Master) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, master)


async def test_calls_that_are_wrong(flags: Flags) -> None:
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("any", SILENT))
        expected = [
            (b"", {}, 400, "Expecting 'Content-Type' to be present"),
            (b"", {"Content-Type": "text/plain"}, 415, f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}"),
            (b"no JSON", {"Content-Type": JSON}, 400, "Failed to parse body into JSON: "),
            (b"no protobuf", {"Content-Type": PROTOBUF}, 400, "Failed to parse body into a protobuf object"),
            (b"{}", {"Content-Type": JSON}, 400, "Missing required fields: "),
            (SUBSCRIBE, {"Content-Type": JSON, "Accept": "text/plain"}, 406, "Expecting 'Accept' to allow "),
        ]
        for call, headers, status, text in expected:
            answer = await client.post(call, headers)
            assert (answer[0], answer[1][: len(text)]) == (status, text)
        assert await client.get() == 405
        invalid = "Failed to validate Executor::Call: "
        for fields, text in (
            ({}, f"{invalid}Expecting 'type' to be present"),
            ({"type": "SUBSCRIBE"}, f"{invalid}Expecting 'subscribe' to be present"),
            ({"type": "UPDATE"}, f"{invalid}Expecting 'update' to be present"),
            ({"type": "MESSAGE"}, f"{invalid}Expecting 'message' to be present"),
            ({**SUBSCRIBE, "framework_id": {"value": "x"}}, "Framework cannot be found"),
            ({**SUBSCRIBE, "executor_id": {"value": "x"}}, "Executor cannot be found"),
        ):
            assert await client.post({**IDS, **fields}) == (400, text)
        message = {**IDS, "type": "MESSAGE", "message": {"data": ""}}
        assert await client.post(message) == (403, "Executor is not subscribed")
        assert await client.post({**IDS, "type": "HEARTBEAT"}) == (202, "")


async def test_updates_that_are_wrong(flags: Flags) -> None:
    right = {
        "task_id": {"value": "any"},
        "state": "TASK_RUNNING",
        "source": "SOURCE_EXECUTOR",
        "uuid": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("any", SILENT))
        async with client.subscribed():
            for change, text in (
                ({"uuid": None}, "Expecting 'uuid' to be present"),
                ({"uuid": "AAAA"}, "Not a valid UUID: it has 3 bytes"),
                ({"executor_id": {"value": "x"}}, "ExecutorID in Call: shell does not match ExecutorID in TaskStatus"),
                ({"source": "SOURCE_MASTER"}, "Received Call from executor shell of framework framework-0000 with inv"),
                ({"state": "TASK_STAGING"}, "Received TASK_STAGING from executor shell of framework framework-0000 wh"),
            ):
                call = {**IDS, "type": "UPDATE", "update": {"status": {**right, **change}}}
                status, answer = await client.post(call)
                assert status == 400
                assert answer.startswith(f"Failed to validate Executor::Call: {text}")
            assert master.states("any") == []


async def test_an_executor_speaks_of_its_own_tasks_and_containers(flags: Flags) -> None:
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("own", SILENT))
        master.run(task_info("of-another", executor_info("another", script="sleep 1000")))
        call = {**SUBSCRIBE, "executor_id": {"value": "another"}}
        async with client.subscribed() as events, client.subscribed(call) as others:
            for each in (events, others):
                assert await each.next() is not None
                assert await each.next() is not None  # It has its task.
            container = {"container_id": {"value": master.executor("another").container_id.value}}
            for task_id, state in (("of-another", "TASK_FINISHED"), ("own", "TASK_RUNNING")):
                status = {
                    "task_id": {"value": task_id},
                    "state": state,
                    "source": "SOURCE_EXECUTOR",
                    "uuid": "AAAAAAAAAAAAAAAAAAAAAA==",
                    "container_status": container,
                }
                assert await client.post({**IDS, "type": "UPDATE", "update": {"status": status}}) == (202, "")
            running = await master.update("own", v1.TASK_RUNNING)
            own = master.executor().container_id.value
            assert running.container_status.container_id.value in (own, "")  # Which may be launching yet.
            assert master.states("of-another") == []


@pytest.mark.parametrize("accept", [None, "*/*", JSON, PROTOBUF])
async def test_a_stream_of_events(flags: Flags, accept: str | None) -> None:
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("any", SILENT))
        async with client.subscribed(**{} if accept is None else {"Accept": accept}) as events:
            assert events.content_type == (accept if accept == PROTOBUF else JSON)
            subscribed = await events.next()
            assert subscribed is not None
            assert subscribed.subscribed.container_id.value == master.executor().container_id.value
            assert subscribed.subscribed.agent_info.id.value == "agent-S0"
            assert subscribed.subscribed.framework_info.id.value == FRAMEWORK_ID
            launch = await events.next()
            assert launch is not None
            assert launch.launch.task.task_id.value == "any"
            status = v1.TaskStatus(
                task_id=launch.launch.task.task_id,
                state=v1.TASK_FINISHED,
                source=v1.TaskStatus.SOURCE_EXECUTOR,
                uuid=uuid.uuid4().bytes,
            )
            update = Call(type=Call.UPDATE, update=Call.Update(status=status))
            update.framework_id.value, update.executor_id.value = FRAMEWORK_ID, "shell"
            assert await client.post(update.SerializeToString(), {"Content-Type": PROTOBUF}) == (202, "")
            acknowledged = await events.next()
            assert acknowledged is not None
            assert acknowledged.acknowledged.uuid == status.uuid
        assert (await master.update("any", v1.TASK_FINISHED)).uuid == status.uuid


async def test_the_last_to_subscribe_is_the_executor(flags: Flags) -> None:
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("any", SILENT))
        async with client.subscribed() as first:
            assert await first.next() is not None
            async with client.subscribed() as second:
                subscribed = await second.next()
                assert subscribed is not None
                assert subscribed.type == Event.SUBSCRIBED
                while await first.next() is not None:
                    pass
                master.kill("any")
                # It was given to the first, and the second says that it does not know of it.
                await master.update("any", v1.TASK_DROPPED)


async def test_who_has_something_to_say_of_a_task_knows_it(flags: Flags) -> None:
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("any", SILENT))
        async with client.subscribed() as events:
            assert await events.next() is not None
            assert await events.next() is not None  # It has its task.
        states = (("TASK_RUNNING", "AAAAAAAAAAAAAAAAAAAAAA=="), ("TASK_FINISHED", "AAAAAAAAAAAAAAAAAAAAAQ=="))
        running, finished = (
            {"status": {"task_id": {"value": "any"}, "state": state, "source": "SOURCE_EXECUTOR", "uuid": identity}}
            for state, identity in states
        )
        async with client.subscribed({**SUBSCRIBE, "subscribe": {"unacknowledged_updates": [running]}}):
            assert await client.post({**IDS, "type": "UPDATE", "update": finished}) == (202, "")
            await master.update("any", v1.TASK_FINISHED)
            assert master.states("any") == ["TASK_RUNNING", "TASK_FINISHED"]


async def test_silence_is_broken_by_heartbeats(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "HEARTBEAT_INTERVAL", 0.01)
    async with running_agent(flags) as master, client_of(master) as client:
        master.run(task_info("any", SILENT))
        async with client.subscribed() as events:
            kinds = set()
            while Event.HEARTBEAT not in kinds:
                event = await events.next()
                assert event is not None
                kinds.add(event.type)
            assert Event.SUBSCRIBED in kinds


async def test_nobody_subscribes_before_the_recovery(flags: Flags) -> None:
    async with running_agent(flags) as master, client_of(master) as client:
        master.agent.tasks.awaits_executors = False
        assert await client.post(SUBSCRIBE) == (503, "Agent has not finished recovery")
        master.agent.tasks.awaits_executors = True
        master.agent.recovered = False
        message = {**IDS, "type": "MESSAGE", "message": {"data": ""}}
        assert await client.post(message) == (503, "Agent has not finished recovery")
        master.agent.recovered = True
