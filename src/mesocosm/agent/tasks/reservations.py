"""What of the agent's resources was reserved, or made a volume, while it runs."""

from __future__ import annotations

from collections.abc import Iterable

from mesocosm.api import v1


class Reservations:
    """The resources that the agent writes down, as nothing else says that they are reserved or volumes."""

    def __init__(self) -> None:
        self.checkpointed: tuple[v1.Resource, ...] = ()

    def has(self, resources: Iterable[v1.Resource]) -> bool:
        """Whether all that are reserved dynamically, or are volumes, are known."""
        return all(_plain(resource) in self.checkpointed for resource in resources if needs_checkpointing(resource))


def needs_checkpointing(resource: v1.Resource) -> bool:
    """Whether it is reserved by a framework or an operator, and not by the flags, or is a volume."""
    dynamic = any(each.type == v1.Resource.ReservationInfo.DYNAMIC for each in resource.reservations)
    return dynamic or resource.disk.HasField("persistence")


def _plain(resource: v1.Resource) -> v1.Resource:
    """Without whom it is given to."""
    plain = v1.Resource()
    plain.CopyFrom(resource)
    plain.ClearField("allocation_info")
    return plain
