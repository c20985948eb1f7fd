"""What masters make of the agent's resources while it runs: reservations, and volumes that outlive tasks.

What an operation changes is changed at once, so that a task which comes after it may use that; no container starts
before it is on the disk, too (`settled`). The master learns of it then, and again until it has acknowledged that.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from mesocosm.agent.tasks import records
from mesocosm.agent.tasks.background import Background
from mesocosm.agent.tasks.paths import Layout
from mesocosm.agent.tasks.quantities import Quantities, applied, conversions, needs_checkpointing
from mesocosm.agent.tasks.registration import Registration
from mesocosm.agent.tasks.updates import FIRST_RETRY, LONGEST_RETRY
from mesocosm.api import convert, internal, v1
from mesocosm.container import PersistentVolume, persistent_volume_path
from mesocosm.errors import ContainerError, RecoveryError
from mesocosm.linux.tree import remove_path

logger = logging.getLogger(__name__)


class Reservations:
    """The resources of an agent, and the operations on them that are not acknowledged."""

    def __init__(
        self, layout: Layout, registration: Registration, background: Background, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when an operation is acknowledged."""
        self.total = Quantities()
        self.operations: dict[bytes, v1.Operation] = {}
        self._offered: tuple[v1.Resource, ...] = ()
        self._layout = layout
        self._registration = registration
        self._background = background
        self._changed = changed
        self._volumes: dict[Path, PersistentVolume] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    @property
    def checkpointed(self) -> tuple[v1.Resource, ...]:
        """What only the agent's records say of resources."""
        return tuple(filter(needs_checkpointing, self.total))

    def offer(self, resources: tuple[v1.Resource, ...]) -> None:
        """Says what the agent has of its own."""
        self._offered = resources
        self.total = Quantities(resources)

    def recover(self, state: internal.ResourceState) -> None:
        """Takes up what is on record. Raises RecoveryError if the agent does not offer so much any more."""
        try:
            self.total = applied(self._offered, state.resources)
        except ValueError as error:
            raise RecoveryError(
                f"what was reserved of the agent's resources is not offered any more: {error}",
                "offer as much as before by --resources",
            ) from None
        self.operations = {operation.uuid.value: operation for operation in state.operations}
        self._volumes = self._wanted()

    async def settled(self) -> None:
        """Returns when all that came before is on the disk."""
        async with self._turn:
            return

    def has(self, resources: Iterable[v1.Resource]) -> bool:
        """Whether all that are reserved dynamically, or are volumes, are there."""
        return all(self.total.has(each) for each in resources if needs_checkpointing(each))

    # What masters ask for.

    def checkpoint(self, message: internal.CheckpointResourcesMessage) -> None:
        """Has these reservations and volumes, and no others."""
        try:
            self.total = applied(self._offered, message.resources)
        except ValueError as error:
            logger.error("the resources of the master are not those of the agent: %s", error)
            return
        self._background.spawn(self._save())

    def apply(self, message: internal.ApplyOperationMessage) -> None:
        """Does an operation, and says what became of it."""
        state, text = v1.OPERATION_FINISHED, None
        total = Quantities(self.total)
        try:
            total.convert(conversions(message.operation_info))
            self.total = total
        except ValueError as error:
            state, text = v1.OPERATION_ERROR, str(error)
            logger.error("an operation fails: %s", text)
        operation = self._operation(message, state, text)
        self.operations[message.operation_uuid.value] = operation
        self._background.spawn(self._save(operation))

    def reconcile(self, message: internal.ReconcileOperationsMessage) -> None:
        """Says what became of operations; of those that are not known, that they never arrived."""
        for asked in message.operations:
            known = self._find(asked, message.framework_id.value)
            if known is not None and message.HasField("framework_id"):
                status = v1.OperationStatus()
                status.CopyFrom(known.latest_status)
                status.ClearField("uuid")
                self._tell(known, status)
            elif known is None and asked.HasField("operation_uuid"):
                self._tell_dropped(asked.operation_uuid)

    def acknowledge(self, message: internal.AcknowledgeOperationStatusMessage) -> None:
        """Has nothing more to say of an operation."""
        operation = self.operations.get(message.operation_uuid.value)
        if operation is None or operation.latest_status.uuid != message.status_uuid:
            logger.warning("an acknowledgement of an operation is not for what was sent")
            return
        del self.operations[message.operation_uuid.value]
        self._background.spawn(self._save())
        self._changed()

    def resume(self) -> None:
        """Tells a master of what is not acknowledged."""
        self._send_again(FIRST_RETRY)

    def pause(self) -> None:
        """Says no more, until there is a master again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_again(self, delay: float) -> None:
        self.pause()
        for operation in self.operations.values():
            self._tell(operation, operation.latest_status)
        if self.operations:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._send_again, min(2 * delay, LONGEST_RETRY))

    # What is said of them.

    def _operation(
        self, message: internal.ApplyOperationMessage, state: v1.OperationState, text: str | None
    ) -> v1.Operation:
        agent_id = v1.AgentID(value=self._registration.agent_id)
        status = v1.OperationStatus(
            operation_id=message.operation_info.id if message.operation_info.HasField("id") else None,
            state=state,
            message=text,
            uuid=v1.UUID(value=uuid.uuid4().bytes),
            agent_id=agent_id,
        )
        return v1.Operation(
            framework_id=message.framework_id if message.HasField("framework_id") else None,
            agent_id=agent_id,
            info=message.operation_info,
            latest_status=status,
            statuses=[status],
            uuid=message.operation_uuid,
        )

    def _find(self, asked: internal.ReconcileOperationsMessage.Operation, framework_id: str) -> v1.Operation | None:
        if asked.HasField("operation_uuid"):
            return self.operations.get(asked.operation_uuid.value)
        for operation in self.operations.values():
            if operation.framework_id.value == framework_id and operation.info.id == asked.operation_id:
                return operation
        return None

    def _tell(self, operation: v1.Operation, status: v1.OperationStatus) -> None:
        self._registration.tell(
            internal.UpdateOperationStatusMessage(
                framework_id=operation.framework_id if operation.HasField("framework_id") else None,
                slave_id=operation.agent_id,
                status=status,
                operation_uuid=operation.uuid,
            )
        )

    def _tell_dropped(self, operation_uuid: v1.UUID) -> None:
        agent_id = v1.AgentID(value=self._registration.agent_id)
        status = v1.OperationStatus(state=v1.OPERATION_DROPPED, agent_id=agent_id)
        message = internal.UpdateOperationStatusMessage(slave_id=agent_id, status=status, operation_uuid=operation_uuid)
        self._registration.tell(message)

    # What is on the disk.

    async def _save(self, operation: v1.Operation | None = None) -> None:
        """Has on the disk what is so now, with the directories of volumes; then tells of an operation."""
        async with self._turn:
            wanted = self._wanted()
            state = internal.ResourceState(operations=self.operations.values(), resources=self.checkpointed)
            # No volume is gone on record whose content may be there for the next one on that disk.
            for path in self._volumes.keys() - wanted.keys():
                await asyncio.to_thread(_remove, path, self._volumes[path])
                del self._volumes[path]
            for path in wanted.keys() - self._volumes.keys():
                await asyncio.to_thread(_make, path, wanted[path])
                self._volumes[path] = wanted[path]
            await records.write_resources(self._layout, state)
        if operation is not None:
            self._tell(operation, operation.latest_status)
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(FIRST_RETRY, self._send_again, 2 * FIRST_RETRY)

    def _wanted(self) -> dict[Path, PersistentVolume]:
        """The volumes that there are to be, and where."""
        volumes = [volume for each in self.checkpointed if (volume := _volume(each)) is not None]
        return {persistent_volume_path(self._layout.work_dir, volume): volume for volume in volumes}


def _volume(resource: v1.Resource) -> PersistentVolume | None:
    """The volume that a resource is, if it is one, wherever containers see it."""
    if not resource.disk.HasField("persistence"):
        return None
    visible = v1.Resource()
    visible.CopyFrom(resource)
    visible.disk.volume.container_path = visible.disk.volume.container_path or "volume"
    visible.disk.volume.mode = v1.Volume.RW
    try:
        return convert.persistent_volume(visible)
    except ContainerError as error:
        logger.error("%s", error)
        return None


def _make(path: Path, volume: PersistentVolume) -> None:
    """Makes the directory of a new volume. What a volume of that name has left was to be removed. Raises OSError.

    A disk that is one volume is as it was mounted: what is there may be meant to be.
    """
    if volume.is_whole_disk:
        return
    if path.exists():
        remove_path(path)
    path.mkdir(parents=True)


def _remove(path: Path, volume: PersistentVolume) -> None:
    """Removes what is in a volume, and its directory, which may be gone already. Raises OSError."""
    logger.info("the persistent volume in %s is removed", path)
    if volume.is_whole_disk:
        for each in list(path.iterdir()):
            remove_path(each)
    elif path.exists():
        remove_path(path)
