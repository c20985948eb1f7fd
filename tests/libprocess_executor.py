"""An executor that is an actor of libprocess, as older ones are: run by a container, not imported by tests."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from pathlib import Path

from google.protobuf.message import Message

from mesocosm.api import internal, v1
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import FROM, Inbox
from mesocosm.libprocess.outbox import Outbox

AGENT = ActorAddress.parse(os.environ["MESOS_SLAVE_PID"])
FRAMEWORK = v1.FrameworkID(value=os.environ["MESOS_FRAMEWORK_ID"])
EXECUTOR = v1.ExecutorID(value=os.environ["MESOS_EXECUTOR_ID"])
ENDED = asyncio.Event()


class Executor:
    """Says of each task that it runs, until it is killed; sends what its framework says back."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def take(self, _: ActorAddress, message: Message) -> None:
        with Path("messages").open("a") as file:
            print(type(message).__name__, file=file)
        if isinstance(message, internal.RunTaskMessage):
            self._update(message.task.task_id, v1.TASK_RUNNING)
        elif isinstance(message, internal.KillTaskMessage):
            self._update(message.task_id, v1.TASK_KILLED)
        elif isinstance(message, internal.FrameworkToExecutorMessage):
            answer = internal.ExecutorToFrameworkMessage(
                slave_id=message.slave_id, framework_id=FRAMEWORK, executor_id=EXECUTOR, data=message.data[::-1]
            )
            self._outbox.send(AGENT, answer)
        elif isinstance(message, internal.ReconnectExecutorMessage):
            again = internal.ReregisterExecutorMessage(framework_id=FRAMEWORK, executor_id=EXECUTOR)
            self._outbox.send(AGENT, again)
        elif isinstance(message, internal.ShutdownExecutorMessage):
            ENDED.set()

    def _update(self, task_id: v1.TaskID, state: v1.TaskState) -> None:
        agent = v1.AgentID(value=os.environ["MESOS_SLAVE_ID"])
        status = v1.TaskStatus(task_id=task_id, state=state, agent_id=agent)
        update = internal.StatusUpdate(
            framework_id=FRAMEWORK,
            executor_id=EXECUTOR,
            slave_id=agent,
            status=status,
            timestamp=time.time(),
            uuid=uuid.uuid4().bytes,
        )
        self._outbox.send(AGENT, internal.StatusUpdateMessage(update=update, pid=str(self._outbox.sender)))


async def main() -> None:
    inbox = Inbox()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            path, *lines = head.splitlines()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            sender = ActorAddress.parse(headers[FROM.lower()])
            name = path.split()[1].rpartition("/")[2]
            status = inbox.deliver(sender, writer.get_extra_info("peername")[0], name, body)
            writer.write(f"HTTP/1.1 {status.value} x\r\nContent-Length: 0\r\n\r\n".encode())

    server = await asyncio.start_server(serve, os.environ["LIBPROCESS_IP"], int(os.environ["LIBPROCESS_PORT"]))
    address = ActorAddress("executor(1)", *server.sockets[0].getsockname())
    outbox = Outbox(address)
    executor = Executor(outbox)
    for kind in (
        internal.ExecutorRegisteredMessage,
        internal.ExecutorReregisteredMessage,
        internal.ReconnectExecutorMessage,
        internal.RunTaskMessage,
        internal.KillTaskMessage,
        internal.StatusUpdateAcknowledgementMessage,
        internal.FrameworkToExecutorMessage,
        internal.ShutdownExecutorMessage,
    ):
        inbox.receive(kind, executor.take)
    outbox.send(AGENT, internal.RegisterExecutorMessage(framework_id=FRAMEWORK, executor_id=EXECUTOR))
    await ENDED.wait()
    await outbox.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
