"""What the link to a master needs of the agent: somebody who does what the master asks, and says what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from mesocosm.api import internal, v1

Send = Callable[[Message], None]
"""Sends a message to the master; it may be lost."""


@dataclass(frozen=True, slots=True)
class Reregistration:
    """All that an agent knows, for a master that does not: the fields of `ReregisterSlaveMessage` of these names.

    `operations` are those of `UpdateSlaveMessage`, which follows.
    """

    frameworks: tuple[v1.FrameworkInfo, ...] = ()
    executor_infos: tuple[v1.ExecutorInfo, ...] = ()
    tasks: tuple[v1.Task, ...] = ()
    completed_frameworks: tuple[internal.Archive.Framework, ...] = ()
    checkpointed_resources: tuple[v1.Resource, ...] = ()
    operations: tuple[v1.Operation, ...] = ()


class Tasks(Protocol):
    """The tasks of an agent, as its master sees them."""

    @property
    def slave(self) -> internal.SlaveInfo | None:
        """The agent as it was registered last, also before a restart; None: it never was, and has no id yet."""

    @property
    def resource_version(self) -> bytes:
        """The 16 bytes of a UUID, as `resource_version_uuid`: a task that assumes another one is not run."""

    def handlers(self) -> Mapping[type[Message], Callable[[Any], None]]:
        """What takes each kind of message from the master. Returns at once; order is kept.

        `ReconcileTasksMessage` is among them, as `SlaveReregisteredMessage.reconciliations` has it. A message that is
        for another agent is dropped.
        """

    def connect(self, slave: internal.SlaveInfo, send: Send) -> None:
        """The agent is registered as `slave`, which has its id. `send` is used from now on. Raises OSError.

        What was not acknowledged is sent again.
        """

    def disconnect(self) -> None:
        """The master is gone: updates are kept for the next one, and the rest is dropped."""

    def reregistration(self) -> Reregistration:
        """What is known now."""

    def resources(self) -> tuple[v1.Resource, ...]:
        """What the agent offers, with the reservations and volumes that were made of it."""

    async def shut_down(self) -> None:
        """Ends all frameworks, as `ShutdownMessage` asks; returns when none of their containers is left."""
