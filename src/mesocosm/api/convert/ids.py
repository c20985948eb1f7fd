"""The names of containers."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.container import ContainerID


def container_id(message: v1.ContainerID) -> ContainerID:
    """The name of a container. Raises ContainerError for one that Mesos may have, but not we."""
    return ContainerID(message.value, container_id(message.parent) if message.HasField("parent") else None)


def container_id_message(container_id: ContainerID) -> v1.ContainerID:
    """A name, with those of the containers it is nested in."""
    message = v1.ContainerID(value=container_id.value)
    if container_id.parent is not None:
        message.parent.CopyFrom(container_id_message(container_id.parent))
    return message
