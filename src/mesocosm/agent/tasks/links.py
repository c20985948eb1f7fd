"""The connection to an executor, by which the agent tells it what to do: HTTP, or the messages of older executors."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from google.protobuf.message import Message

from mesocosm.agent.tasks import allocation
from mesocosm.api import internal, recordio, v1
from mesocosm.api.json import to_json
from mesocosm.api.v1.executor import Event
from mesocosm.container import ContainerID
from mesocosm.libprocess.address import NOBODY, ActorAddress

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 30 * 60.0
"""Seconds of silence after which an executor is told that the agent is there (DEFAULT_EXECUTOR_HEARTBEAT_INTERVAL)."""

_MOST_WAITING = 64 << 20
"""Bytes of events that wait for an executor to read them."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What an executor is told that has registered."""

    executor: v1.ExecutorInfo
    framework: v1.FrameworkInfo
    slave: internal.SlaveInfo
    container_id: ContainerID


class Link(Protocol):
    """One executor's connection. Nothing here waits or fails: what cannot be delivered is lost."""

    def welcome(self, welcome: Welcome) -> None:
        """It is registered."""

    def launch(self, framework: v1.FrameworkInfo, pid: str, task: v1.TaskInfo) -> None:
        """It shall run a task."""

    def launch_group(self, tasks: Sequence[v1.TaskInfo]) -> bool:
        """It shall run all of these, or none; False if there are no groups in its language."""

    def kill(self, framework_id: str, task_id: str, policy: v1.KillPolicy | None) -> None:
        """It shall end a task."""

    def acknowledge(self, update: internal.StatusUpdate) -> None:
        """The agent has an update, and sees to it that the framework gets it."""

    def message(self, message: internal.FrameworkToExecutorMessage) -> None:
        """Something from its framework."""

    def shut_down(self) -> None:
        """It shall end."""

    def close(self) -> None:
        """Nothing more is said."""


class HttpLink:
    """A stream of events, as the answer to SUBSCRIBE. It ends for an executor that does not read what it is told."""

    def __init__(self, *, as_json: bool) -> None:
        self._encode: Callable[[Event], bytes] = _json if as_json else Event.SerializeToString
        self._records: deque[bytes] = deque()
        self._waiting = 0
        self._news = asyncio.Event()
        self._closed = False

    def welcome(self, welcome: Welcome) -> None:
        """SUBSCRIBED."""
        subscribed = Event.Subscribed(
            executor_info=welcome.executor,
            framework_info=welcome.framework,
            agent_info=agent_info(welcome.slave),
            container_id=v1.ContainerID(value=welcome.container_id.value),
        )
        self._tell(Event(type=Event.SUBSCRIBED, subscribed=subscribed))

    def launch(self, framework: v1.FrameworkInfo, pid: str, task: v1.TaskInfo) -> None:
        """LAUNCH."""
        self._tell(Event(type=Event.LAUNCH, launch=Event.Launch(task=task)))

    def launch_group(self, tasks: Sequence[v1.TaskInfo]) -> bool:
        """LAUNCH_GROUP."""
        group = Event.LaunchGroup(task_group=v1.TaskGroupInfo(tasks=tasks))
        self._tell(Event(type=Event.LAUNCH_GROUP, launch_group=group))
        return True

    def kill(self, framework_id: str, task_id: str, policy: v1.KillPolicy | None) -> None:
        """KILL."""
        kill = Event.Kill(task_id=v1.TaskID(value=task_id), kill_policy=policy)
        self._tell(Event(type=Event.KILL, kill=kill))

    def acknowledge(self, update: internal.StatusUpdate) -> None:
        """ACKNOWLEDGED."""
        acknowledged = Event.Acknowledged(task_id=update.status.task_id, uuid=update.uuid)
        self._tell(Event(type=Event.ACKNOWLEDGED, acknowledged=acknowledged))

    def message(self, message: internal.FrameworkToExecutorMessage) -> None:
        """MESSAGE."""
        self._tell(Event(type=Event.MESSAGE, message=Event.Message(data=message.data)))

    def shut_down(self) -> None:
        """SHUTDOWN."""
        self._tell(Event(type=Event.SHUTDOWN))

    def close(self) -> None:
        """The end of the stream, when what was said has been read."""
        self._closed = True
        self._news.set()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The events in RecordIO, until the link is closed. Without a reader nothing is kept for one."""
        try:
            while True:
                while self._records:
                    record = self._records.popleft()
                    self._waiting -= len(record)
                    yield record
                if self._closed:
                    return
                await self._await_news()
        finally:
            self._closed = True
            self._forget()

    async def _await_news(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(HEARTBEAT_INTERVAL):
                await self._news.wait()
        except TimeoutError:
            self._tell(Event(type=Event.HEARTBEAT))

    def _tell(self, event: Event) -> None:
        if self._closed:
            return
        if self._waiting > _MOST_WAITING:
            logger.warning("an executor does not read its events, and has to subscribe again")
            self.close()
            self._forget()
            return
        record = recordio.encode(self._encode(event))
        self._records.append(record)
        self._waiting += len(record)
        self._news.set()

    def _forget(self) -> None:
        self._records.clear()
        self._waiting = 0


class ActorLink:
    """Messages to an older executor, which is an actor of libprocess."""

    def __init__(
        self, address: ActorAddress, send: Callable[[ActorAddress, Message], None], *, returns: bool = False
    ) -> None:
        """It `returns` to an agent that was started anew."""
        self.address = address
        self._send = send
        self._returns = returns

    def welcome(self, welcome: Welcome) -> None:
        """ExecutorRegisteredMessage, or ExecutorReregisteredMessage if it returns."""
        if self._returns:
            again = internal.ExecutorReregisteredMessage(slave_id=welcome.slave.id, slave_info=welcome.slave)
            self._send(self.address, again)
            return
        self._send(
            self.address,
            internal.ExecutorRegisteredMessage(
                executor_info=welcome.executor,
                framework_id=welcome.framework.id,
                framework_info=welcome.framework,
                slave_id=welcome.slave.id,
                slave_info=welcome.slave,
            ),
        )

    def reconnect(self, slave_id: v1.AgentID) -> None:
        """ReconnectExecutorMessage: it shall register again."""
        self._send(self.address, internal.ReconnectExecutorMessage(slave_id=slave_id))

    def launch(self, framework: v1.FrameworkInfo, pid: str, task: v1.TaskInfo) -> None:
        """RunTaskMessage."""
        # The field that is no longer used is not, as in Mesos, but a driver insists on an address.
        self._send(self.address, internal.RunTaskMessage(framework=framework, task=task, pid=pid or str(NOBODY)))

    def launch_group(self, tasks: Sequence[v1.TaskInfo]) -> bool:
        """There are no groups in that language."""
        return False

    def kill(self, framework_id: str, task_id: str, policy: v1.KillPolicy | None) -> None:
        """KillTaskMessage."""
        self._send(
            self.address,
            internal.KillTaskMessage(
                framework_id=v1.FrameworkID(value=framework_id), task_id=v1.TaskID(value=task_id), kill_policy=policy
            ),
        )

    def acknowledge(self, update: internal.StatusUpdate) -> None:
        """StatusUpdateAcknowledgementMessage."""
        self._send(self.address, internal.acknowledgement(update))

    def message(self, message: internal.FrameworkToExecutorMessage) -> None:
        """FrameworkToExecutorMessage."""
        self._send(self.address, message)

    def shut_down(self) -> None:
        """ShutdownExecutorMessage."""
        self._send(self.address, internal.ShutdownExecutorMessage())

    def close(self) -> None:
        """Nothing: it is told what it is told."""


def agent_info(slave: internal.SlaveInfo) -> v1.AgentInfo:
    """The agent as executors know it."""
    info = v1.AgentInfo(
        hostname=slave.hostname,
        port=slave.port,
        resources=slave.resources,
        attributes=slave.attributes,
        id=slave.id,
        domain=slave.domain if slave.HasField("domain") else None,
    )
    for resource in info.resources:
        allocation.renew(resource)  # Masters are told the older way.
    return info


def _json(event: Event) -> bytes:
    return msgspec.json.encode(to_json(event))
