"""Who the agent is to its master, and the way to that, while there is one."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from google.protobuf.message import Message

from mesocosm.agent.tasks.ended import Verdict
from mesocosm.api import internal, v1
from mesocosm.libprocess.address import ActorAddress
from mesocosm.master.base import Send


@dataclass(slots=True)
class Registration:
    """What the agent is called. `send` is None while it is not registered; `address` is where its actor is.

    With `ip6`, containers that are in the host's network are said to be there, too.
    """

    address: ActorAddress
    ip6: str | None = None
    slave: internal.SlaveInfo | None = None
    send: Send | None = None

    @property
    def agent_id(self) -> str:
        """Its name, which a master gave it; empty before one has."""
        return "" if self.slave is None else self.slave.id.value

    def network_info(self) -> v1.NetworkInfo:
        """Where a container without addresses of its own can be reached."""
        addresses = [self.address.ip, *([] if self.ip6 is None else [self.ip6])]
        return v1.NetworkInfo(
            ip_addresses=[
                v1.NetworkInfo.IPAddress(ip_address=each, protocol="IPv6" if ":" in each else None)
                for each in addresses
            ]
        )

    def tell(self, message: Message) -> None:
        """Says something to the master; it is lost if there is none."""
        if self.send is not None:
            self.send(message)

    def update(
        self, framework_id: str, task_id: str, verdict: Verdict, executor_id: str | None = None
    ) -> internal.StatusUpdate:
        """What the agent itself has to say of a task."""
        status = v1.TaskStatus(
            task_id=v1.TaskID(value=task_id),
            state=verdict.state,
            source=v1.TaskStatus.SOURCE_AGENT,
            reason=verdict.reason,
            message=verdict.message,
            limitation=verdict.limitation,
        )
        if executor_id is not None:
            status.executor_id.value = executor_id
        status.uuid = uuid.uuid4().bytes
        return self.completed(framework_id, status)

    def completed(self, framework_id: str, status: v1.TaskStatus) -> internal.StatusUpdate:
        """The update that brings `status`, which gets the agent and the time (`protobuf::createStatusUpdate`)."""
        status.agent_id.value = self.agent_id
        if not status.HasField("timestamp"):
            status.timestamp = time.time()
        return internal.StatusUpdate(
            framework_id=v1.FrameworkID(value=framework_id),
            executor_id=status.executor_id if status.HasField("executor_id") else None,
            slave_id=status.agent_id,
            status=status,
            timestamp=status.timestamp,
            uuid=status.uuid,
        )
