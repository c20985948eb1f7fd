"""The resources of tasks and executors: for which role they are, and how much of them a container may use at most."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from mesocosm.api import v1

_LIMITED = ("cpus", "mem")


def complete(resources: Iterable[v1.Resource], roles: Sequence[str]) -> None:
    """Says in each what an older master leaves out: the role it is for, and in the newer way whose it is.

    Raises ValueError where that cannot be told, as there are several `roles` that it could be for.
    """
    for resource in resources:
        if not resource.HasField("allocation_info"):
            if len(roles) != 1:
                raise ValueError(f"the resource {resource.name!r} is for none of the framework's {len(roles)} roles")
            resource.allocation_info.role = roles[0]
        renew(resource)


def role(resources: Iterable[v1.Resource]) -> str | None:
    """That of the first which is allocated to any, as they are all for one."""
    return next((each.allocation_info.role for each in resources if each.HasField("allocation_info")), None)


def renew(resource: v1.Resource) -> None:
    """Says in the newer way whom the resource is reserved for (`upgradeResource` of Mesos)."""
    if not resource.reservations and resource.role != "*":
        dynamic = resource.HasField("reservation")
        reservation = resource.reservations.add(
            type=v1.Resource.ReservationInfo.DYNAMIC if dynamic else v1.Resource.ReservationInfo.STATIC,
            role=resource.role,
        )
        if resource.reservation.HasField("principal"):
            reservation.principal = resource.reservation.principal
        if resource.reservation.HasField("labels"):
            reservation.labels.CopyFrom(resource.reservation.labels)
    resource.ClearField("role")
    resource.ClearField("reservation")


def limits(
    executor: Iterable[v1.Resource], tasks: Sequence[v1.Task], *, cpus_are_bounded: bool
) -> dict[str, v1.Value.Scalar]:
    """How much the container of an executor may use, if any of its tasks says so (`Slave::computeExecutorLimits`).

    Tasks without a limit may use what they have been given. That is no bound of cpus unless `cpus_are_bounded`.
    """
    executor = list(executor)
    found = {}
    for name in _LIMITED:
        own = [task.limits[name].value for task in tasks if name in task.limits]
        if not own:
            continue
        given = sum(_amount(task.resources, name) for task in tasks if name not in task.limits)
        if name == "cpus" and given and not cpus_are_bounded:
            continue
        total = math.inf if math.inf in own else sum(own) + given + _amount(executor, name)
        found[name] = v1.Value.Scalar(value=total)
    return found


def total(resources: Iterable[v1.Resource]) -> Mapping[str, float]:
    """How much there is of each scalar resource, for whichever role."""
    found: dict[str, float] = {}
    for resource in resources:
        if resource.type == v1.Value.SCALAR:
            found[resource.name] = found.get(resource.name, 0.0) + resource.scalar.value
    return found


def _amount(resources: Iterable[v1.Resource], name: str) -> float:
    return sum(resource.scalar.value for resource in resources if resource.name == name)
