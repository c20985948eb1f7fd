"""Sums of resources, and what operations make of them."""

from __future__ import annotations

import pytest

from mesocosm.agent.tasks.quantities import Quantities, applied, conversions, needs_checkpointing
from mesocosm.api import v1
from mesocosm.api.value_text import parse_resources

OFFERED = parse_resources("cpus:4;mem:1024;disk:1000;ports:[1-100];disk(role):50")
DYNAMIC = v1.Resource.ReservationInfo(type=v1.Resource.ReservationInfo.DYNAMIC, role="role", principal="me")
Operation = v1.Offer.Operation


def reserved(text: str) -> list[v1.Resource]:
    """The resources, reserved for a role while the agent runs."""
    resources = list(parse_resources(text))
    for resource in resources:
        resource.reservations.append(DYNAMIC)
        resource.allocation_info.role = "role"
    return resources


def volume(name: str, size: float = 10) -> v1.Resource:
    (disk,) = reserved(f"disk:{size}")
    disk.disk.persistence.id = name
    disk.disk.volume.container_path = "data"
    disk.disk.volume.mode = v1.Volume.RW
    return disk


def scalars(total: Quantities) -> list[tuple[str, int, float]]:
    return sorted(
        (each.name, len(each.reservations), each.scalar.value) for each in total if each.type == v1.Value.SCALAR
    )


def test_what_is_reserved_is_taken_from_the_rest() -> None:
    total = Quantities(OFFERED)
    wanted = reserved("cpus:1.5;ports:[10-20]")
    reserve = Operation(type=Operation.RESERVE, reserve=Operation.Reserve(resources=wanted))
    total.convert(conversions(reserve))
    assert ("cpus", 0, 2.5) in scalars(total)
    assert ("cpus", 1, 1.5) in scalars(total)
    ports = {
        len(each.reservations): [(part.begin, part.end) for part in each.ranges.range]
        for each in total
        if each.name == "ports"
    }
    assert ports == {0: [(1, 9), (21, 100)], 1: [(10, 20)]}
    unreserve = Operation(type=Operation.UNRESERVE, unreserve=Operation.Unreserve(resources=wanted))
    total.convert(conversions(unreserve))
    assert scalars(total) == scalars(Quantities(OFFERED))
    assert [each for each in total if each.name == "ports"] == [each for each in OFFERED if each.name == "ports"]


def test_a_volume_is_made_grown_shrunk_and_destroyed() -> None:
    total = Quantities(OFFERED)
    disk = reserved("disk:100")
    total.convert(conversions(Operation(type=Operation.RESERVE, reserve=Operation.Reserve(resources=disk))))
    made = volume("v1", 60)
    total.convert(conversions(Operation(type=Operation.CREATE, create=Operation.Create(volumes=[made]))))
    assert scalars(total)[1:4] == [("disk", 0, 900), ("disk", 1, 40), ("disk", 1, 50)]
    assert total.has(made)
    assert not total.has(volume("v1", 50))
    grow = Operation.GrowVolume(volume=made, addition=reserved("disk:10")[0])
    total.convert(conversions(Operation(type=Operation.GROW_VOLUME, grow_volume=grow)))
    assert total.has(volume("v1", 70))
    shrink = Operation.ShrinkVolume(volume=volume("v1", 70), subtract=v1.Value.Scalar(value=20))
    total.convert(conversions(Operation(type=Operation.SHRINK_VOLUME, shrink_volume=shrink)))
    assert total.has(volume("v1", 50))
    gone = Operation(type=Operation.DESTROY, destroy=Operation.Destroy(volumes=[volume("v1", 50)]))
    total.convert(conversions(gone))
    assert [each for each in total if each.disk.HasField("persistence")] == []
    assert total.has(disk[0])


def test_what_is_on_record_is_made_of_what_is_offered() -> None:
    checkpointed = [*reserved("cpus:1"), volume("v1", 60)]
    total = applied(OFFERED, checkpointed)
    assert [each.name for each in total if needs_checkpointing(each)] == ["cpus", "disk"]
    assert ("disk", 0, 940) in scalars(total)
    with pytest.raises(ValueError, match="there is not so much of 'cpus' as is to be taken"):
        applied(OFFERED, reserved("cpus:5"))


@pytest.mark.parametrize("kind", ["CREATE_DISK", "DESTROY_DISK", "LAUNCH"])
def test_operations_of_others_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=f"the operation {kind} is for resource providers"):
        conversions(Operation(type=Operation.Type.Value(kind)))
