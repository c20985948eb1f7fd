"""The messages of the package mesos.internal: what masters, agents and older executors say by libprocess."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from mesocosm.api.protos import internal_pb2
from mesocosm.api.protos.internal_pb2 import *

PREFIX = "mesos.internal."


def name_of(message: Message) -> str:
    """How the wire calls it: mesos.internal.PingSlaveMessage."""
    return message.DESCRIPTOR.full_name


def acknowledgement(update: internal_pb2.StatusUpdate) -> internal_pb2.StatusUpdateAcknowledgementMessage:
    """What says that whoever it was for has an update."""
    return internal_pb2.StatusUpdateAcknowledgementMessage(
        slave_id=update.slave_id,
        framework_id=update.framework_id,
        task_id=update.status.task_id,
        uuid=update.uuid,
    )


def parse(name: str, data: bytes) -> Message | None:
    """The message `name` that `data` is; None for a name that is not known here. Raises ValueError for other data."""
    descriptor = internal_pb2.DESCRIPTOR.message_types_by_name.get(name.removeprefix(PREFIX))
    if descriptor is None or not name.startswith(PREFIX):
        return None
    message: Message = getattr(internal_pb2, descriptor.name)()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"this is no {name}: {error}") from None
    return message
