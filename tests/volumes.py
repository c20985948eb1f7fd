"""Reservations and persistent volumes, as a master has an agent make them."""

from __future__ import annotations

import uuid
from typing import Any

from mesocosm.api import internal, v1
from tests.task_agent import Master, scalars

ROLE = "web"


def reserved(name: str, amount: float, **disk: Any) -> v1.Resource:
    """A resource that the role has, on the `disk` that is named, if one is."""
    (resource,) = scalars(**{name: amount})
    resource.reservations.add(type=v1.Resource.ReservationInfo.DYNAMIC, role=ROLE, principal="me")
    if disk:
        resource.disk.CopyFrom(v1.Resource.DiskInfo(**disk))
    return resource


def volume(name: str, size: float, path: str = "data", *, shared: bool = False, **disk: Any) -> v1.Resource:
    """A volume on the agent's own disk, or on the one that is named."""
    resource = reserved("disk", size, **disk)
    resource.disk.persistence.id = name
    resource.disk.volume.container_path = path
    resource.disk.volume.mode = v1.Volume.RW
    if shared:
        resource.shared.SetInParent()
    return resource


async def operate(master: Master, kind: str, *resources: v1.Resource) -> v1.OperationStatus:
    """Has the agent RESERVE, CREATE or DESTROY, and acknowledges what it says of that."""
    info = v1.Offer.Operation(type=v1.Offer.Operation.Type.Value(kind))
    field = getattr(info, kind.lower())
    (field.resources if kind == "RESERVE" else field.volumes).extend(resources)
    identity = v1.UUID(value=uuid.uuid4().bytes)
    master.tell(
        internal.ApplyOperationMessage(
            operation_info=info,
            operation_uuid=identity,
            resource_version_uuid=internal.ResourceVersionUUID(uuid=v1.UUID(value=bytes(16))),
        )
    )
    told = await master.heard(internal.UpdateOperationStatusMessage, lambda each: each.operation_uuid == identity)
    master.tell(internal.AcknowledgeOperationStatusMessage(status_uuid=told.status.uuid, operation_uuid=identity))
    return told.status


async def create(master: Master, *volumes: v1.Resource) -> None:
    """Reserves what volumes are made of, and makes them."""
    for each in volumes:
        disk = v1.Resource()
        disk.CopyFrom(each)
        disk.ClearField("shared")
        for name in ("persistence", "volume"):
            disk.disk.ClearField(name)
        if not disk.disk.ListFields():
            disk.ClearField("disk")
        for kind, resource in (("RESERVE", disk), ("CREATE", each)):
            status = await operate(master, kind, resource)
            assert status.state == v1.OPERATION_FINISHED, status.message
