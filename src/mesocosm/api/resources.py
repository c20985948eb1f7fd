"""What a `Resource` of mesos.v1 has to be, and why one is not, in the words of Mesos (`common/resources.cpp`)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import pairwise

from mesocosm.api import v1

_SPACE = re.compile(r"[\t\n\v\f\r \x7f]")
_Reservation = v1.Resource.ReservationInfo
_Source = v1.Resource.DiskInfo.Source


def validate_resources(resources: Iterable[v1.Resource]) -> str | None:
    """What is wrong with the first that is invalid; None: they all are valid."""
    for resource in resources:
        if (reason := validate_resource(resource)) is not None:
            return f"Resource {_text(resource)!r} is invalid: {reason}"
    return None


def validate_resource(resource: v1.Resource) -> str | None:
    """What is wrong; None: nothing."""
    if not resource.name:
        return "Empty resource name"
    validate_reservation = _validate_stack if resource.reservations else _validate_reservation
    return (
        _validate_value(resource)
        or _validate_disk(resource)
        or validate_reservation(resource)
        or _validate_shared(resource)
    )


def validate_gpus(resources: Iterable[v1.Resource]) -> str | None:
    """GPUs are whole. The resources are valid ones."""
    gpus = sum(_thousandths(resource.scalar.value) for resource in resources if resource.name == "gpus")
    return "The 'gpus' resource must be an unsigned integer" if gpus % 1000 else None


def is_reserved(resource: v1.Resource) -> bool:
    """Whether it belongs to some role, said in the newer or in the older way."""
    return bool(resource.reservations) or resource.role != "*"


# The amount.


def _thousandths(value: float) -> int:
    """Mesos counts in those, so that sums are exact."""
    return round(value * 1000)


def _validate_value(resource: v1.Resource) -> str | None:
    kind = v1.Value.Type.Name(resource.type)
    if kind == "TEXT":
        return "Unsupported resource type"
    name = kind.lower()
    if [field for field in ("scalar", "ranges", "set") if resource.HasField(field)] != [name]:
        return f"Invalid {name} resource"
    if kind == "SCALAR":
        return _validate_scalar(resource.scalar.value)
    if kind == "RANGES":
        return _validate_ranges(resource.ranges.range)
    if len(set(resource.set.item)) < len(resource.set.item):
        return "Invalid set resource: duplicated elements"
    return None


def _validate_scalar(value: float) -> str | None:
    if not math.isfinite(value * 1000):
        return "Invalid scalar resource: value is out of range"
    if value != 0 and _thousandths(value) <= 0:
        return "Invalid scalar resource: value <= 0"
    return None


def _validate_ranges(ranges: Iterable[v1.Value.Range]) -> str | None:
    ordered = sorted((part.begin, part.end) for part in ranges)
    if any(begin > end for begin, end in ordered):
        return "Invalid ranges resource: begin > end"
    if any(begin <= end for (_, end), (begin, _) in pairwise(ordered)):
        return "Invalid ranges resource: overlapping ranges"
    return None


def _validate_disk(resource: v1.Resource) -> str | None:
    if not resource.HasField("disk"):
        return None
    if resource.name != "disk":
        return f"DiskInfo should not be set for {resource.name!r} resource"
    source = resource.disk.source
    if not resource.disk.HasField("source") or source.type in (_Source.PATH, _Source.MOUNT):
        return None
    name = _Source.Type.Name(source.type)
    if source.type == _Source.UNKNOWN:
        return f"Unsupported 'DiskInfo.Source.Type' in '{name}'"
    if source.HasField("mount"):
        return f"Mount should not be set for {name} disk source"
    if source.HasField("path"):
        return f"Path should not be set for {name} disk source"
    return None


def _validate_shared(resource: v1.Resource) -> str | None:
    if not resource.HasField("shared"):
        return None
    if resource.name != "disk":
        return f"Resource {resource.name!r} cannot be shared"
    if not resource.disk.HasField("persistence"):
        return "Only persistent volumes can be shared"
    return None


# Whose it is.


def validate_role(role: str) -> str | None:
    """What is wrong with the name of a role; None: nothing."""
    if role == "*":
        return None
    if role.startswith("/"):
        return f"Role {role!r} cannot start with a slash"
    if role.endswith("/"):
        return f"Role {role!r} cannot end with a slash"
    if "//" in role:
        return f"Role {role!r} cannot contain two adjacent slashes"
    if not role:
        return "Role names cannot be the empty string"
    for component in role.split("/"):
        if component in (".", "..", "*"):
            return f"Role {role!r} cannot include {component!r} as a component"
        if component.startswith("-"):
            return f"Role component {component!r} is invalid because it starts with a dash"
        if _SPACE.search(component):
            return f"Role component {component!r} is invalid because it contains backspace or whitespace"
    return None


def _validate_reservation(resource: v1.Resource) -> str | None:
    """The older way: a role, and whether it was reserved for that while the agent ran."""
    if reason := validate_role(resource.role):
        return reason
    if not resource.HasField("reservation"):
        return None
    for field in ("type", "role"):
        if resource.reservation.HasField(field):
            return f"'Resource.ReservationInfo.{field}' must not be set for the 'Resource.reservation' field"
    if resource.role == "*":
        return 'Invalid reservation: role "*" cannot be dynamically reserved'
    return None


def _validate_stack(resource: v1.Resource) -> str | None:
    """The newer way: each reservation is for a role below that of the one before."""
    for reservation in resource.reservations:
        if reason := _validate_entry(reservation):
            return reason
    for before, after in pairwise(resource.reservations):
        if after.type == _Reservation.STATIC:
            return "Invalid refined reservation: A refined reservation cannot be STATIC"
        if not after.role.startswith(f"{before.role}/"):
            return f"Invalid refined reservation: role {after.role!r} is not a refinement of {before.role!r}"
    if len(resource.reservations) == 1:
        return _validate_both_ways(resource, resource.reservations[0])
    for field in ("role", "reservation"):
        if resource.HasField(field):
            return (
                f"Invalid resource format: 'Resource.{field}' must not be set if there is more than one reservation in"
                " 'Resource.reservations'"
            )
    return None


def _validate_entry(reservation: v1.Resource.ReservationInfo) -> str | None:
    for field in ("type", "role"):
        if not reservation.HasField(field):
            return f"Invalid reservation: 'Resource.ReservationInfo.{field}' field must be set."
    if reason := validate_role(reservation.role):
        return reason
    return 'Invalid reservation: role "*" cannot be reserved' if reservation.role == "*" else None


def _validate_both_ways(resource: v1.Resource, reservation: v1.Resource.ReservationInfo) -> str | None:
    """A single reservation may be said in the older way, too, if that is the same."""
    wrong = "Invalid resource format: 'Resource."
    single = "if the single reservation in 'Resource.reservations' is"
    if resource.HasField("role") and resource.role != reservation.role:
        return (
            f"{wrong}role' field with {resource.role!r} does not match the role {reservation.role!r} in"
            " 'Resource.reservations'"
        )
    if reservation.type == _Reservation.UNKNOWN:
        return "Unsupported 'Resource.ReservationInfo.Type'"
    if reservation.type == _Reservation.STATIC:
        return f"{wrong}reservation' must not be set {single} STATIC" if resource.HasField("reservation") else None
    if resource.HasField("role") != resource.HasField("reservation"):
        return f"{wrong}role' and 'Resource.reservation' must either be both set or both not set {single} DYNAMIC"
    if not resource.HasField("reservation"):
        return None
    for field in ("principal", "labels"):
        if getattr(resource.reservation, field) != getattr(reservation, field):
            return f"{wrong}reservation.{field}' field does not match the {field} in 'Resource.reservations'"
    return None


def value_text(message: v1.Resource | v1.Attribute) -> str:
    """The value as flags, logs and /state have it: 0.5, [31000-32000], {a, b}, or a text."""
    if message.HasField("scalar"):
        return f"{message.scalar.value:.3f}".rstrip("0").rstrip(".")
    if message.HasField("ranges"):
        return f"[{', '.join(f'{part.begin}-{part.end}' for part in message.ranges.range)}]"
    if isinstance(message, v1.Attribute) and message.HasField("text"):
        return message.text.value
    return f"{{{', '.join(message.set.item)}}}"


def _text(resource: v1.Resource) -> str:
    return f"{resource.name}:{value_text(resource)}"
