"""Sums of resources, and what operations make of them, as Mesos reckons (common/resources.cpp, resources_utils.cpp)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mesocosm.api import v1

Pair = tuple[int, int]
"""A range of numbers, with both ends."""

_DYNAMIC = v1.Resource.ReservationInfo.DYNAMIC


class Quantities:
    """Resources of which those that differ in their amount alone are one. What they are allocated to does not count."""

    def __init__(self, resources: Iterable[v1.Resource] = ()) -> None:
        self._found: dict[bytes, v1.Resource] = {}
        for resource in resources:
            self.add(resource)

    def __iter__(self) -> Iterator[v1.Resource]:
        return iter(self._found.values())

    def add(self, resource: v1.Resource) -> None:
        """Adds what is no volume that is there."""
        plain = _plain(resource)
        key = _identity(plain)
        if (known := self._found.get(key)) is None:
            self._found[key] = plain
        elif known.type == v1.Value.SCALAR:
            known.scalar.value = round(known.scalar.value + plain.scalar.value, 3)
        elif known.type == v1.Value.RANGES:
            _set_ranges(known, _joined([*_pairs(known), *_pairs(plain)]))
        else:
            known.set.item[:] = sorted({*known.set.item, *plain.set.item})

    def take(self, resource: v1.Resource) -> None:
        """Takes away what is there. Raises ValueError if that is less."""
        key = _identity(_plain(resource))
        known = self._found.get(key)
        if known is None or not _contains(known, resource):
            raise ValueError(f"there is not so much of {resource.name!r} as is to be taken")
        if _is_whole(known) or _subtract(known, resource):
            del self._found[key]

    def has(self, resource: v1.Resource) -> bool:
        """Whether there is so much of it."""
        known = self._found.get(_identity(_plain(resource)))
        return known is not None and _contains(known, resource)

    def convert(self, conversions: Iterable[Conversion]) -> None:
        """Has become what operations make of them. Raises ValueError, and may have begun with it then."""
        for conversion in conversions:
            for resource in conversion.consumed:
                self.take(resource)
            for resource in conversion.converted:
                self.add(resource)


@dataclass(frozen=True, slots=True)
class Conversion:
    """Resources that become others."""

    consumed: Sequence[v1.Resource]
    converted: Sequence[v1.Resource]


def conversions(operation: v1.Offer.Operation) -> list[Conversion]:
    """What an operation makes of an agent's own resources. Raises ValueError for one that is not about those."""
    kind = v1.Offer.Operation.Type.Name(operation.type)
    if kind == "RESERVE":
        wanted = operation.reserve.resources
        if operation.reserve.source:
            return [Conversion(operation.reserve.source, wanted)]
        return [Conversion([_unreserved(each)], [each]) for each in wanted]
    if kind == "UNRESERVE":
        return [Conversion([each], [_unreserved(each)]) for each in operation.unreserve.resources]
    if kind == "CREATE":
        return [Conversion([_emptied(each)], [each]) for each in operation.create.volumes]
    if kind == "DESTROY":
        return [Conversion([each], [_emptied(each)]) for each in operation.destroy.volumes]
    if kind == "GROW_VOLUME":
        volume, addition = operation.grow_volume.volume, operation.grow_volume.addition
        return [Conversion([volume, addition], [_resized(volume, addition.scalar.value)])]
    if kind == "SHRINK_VOLUME":
        volume, less = operation.shrink_volume.volume, operation.shrink_volume.subtract.value
        freed = _emptied(volume)
        freed.scalar.value = less
        return [Conversion([volume], [_resized(volume, -less), freed])]
    raise ValueError(f"the operation {kind} is for resource providers, which there are none of here")


def applied(offered: Iterable[v1.Resource], checkpointed: Iterable[v1.Resource]) -> Quantities:
    """What is offered with the reservations and volumes that were made of it. Raises ValueError if it is too little."""
    total = Quantities(offered)
    total.convert(Conversion([_original(each)], [each]) for each in checkpointed)
    return total


def needs_checkpointing(resource: v1.Resource) -> bool:
    """Whether it is reserved by a framework or an operator, and not by the flags, or is a volume."""
    return any(each.type == _DYNAMIC for each in resource.reservations) or _is_volume(resource)


def _is_volume(resource: v1.Resource) -> bool:
    return resource.disk.HasField("persistence")


def _is_whole(resource: v1.Resource) -> bool:
    """Whether it cannot be had in parts: a volume, or a disk of which a volume is made as a whole."""
    return _is_volume(resource) or resource.disk.source.type == v1.Resource.DiskInfo.Source.MOUNT


def _plain(resource: v1.Resource) -> v1.Resource:
    """Without whom it is given to, and where a container sees it."""
    plain = _copy(resource)
    plain.ClearField("allocation_info")
    if plain.disk.HasField("volume") and not _is_volume(plain):
        plain.disk.ClearField("volume")
    return plain


def _identity(plain: v1.Resource) -> bytes:
    """What makes it another resource than any that it could be added to. A volume is one by its name."""
    kind = _copy(plain)
    for field in ("scalar", "ranges", "set"):
        kind.ClearField(field)
    if _is_volume(kind):
        kind.disk.ClearField("volume")
    return kind.SerializeToString(deterministic=True)


def _unreserved(resource: v1.Resource) -> v1.Resource:
    """Without the last of its reservations."""
    before = _copy(resource)
    if not before.reservations:
        raise ValueError(f"the resource {resource.name!r} is not reserved")
    del before.reservations[-1]
    return before


def _emptied(volume: v1.Resource) -> v1.Resource:
    """The disk that a volume was made of."""
    disk = _copy(volume)
    for field in ("persistence", "volume"):
        disk.disk.ClearField(field)
    if not disk.disk.ListFields():
        disk.ClearField("disk")
    disk.ClearField("shared")
    return disk


def _original(resource: v1.Resource) -> v1.Resource:
    """As the flags have it."""
    original = _emptied(resource) if _is_volume(resource) else _copy(resource)
    while original.reservations and original.reservations[-1].type == _DYNAMIC:
        del original.reservations[-1]
    return original


def _resized(volume: v1.Resource, by: float) -> v1.Resource:
    resized = _copy(volume)
    resized.scalar.value = round(resized.scalar.value + by, 3)
    return resized


def _copy(resource: v1.Resource) -> v1.Resource:
    copy = v1.Resource()
    copy.CopyFrom(resource)
    return copy


# Amounts.


def _contains(known: v1.Resource, part: v1.Resource) -> bool:
    if _is_whole(known):
        return round(known.scalar.value, 3) == round(part.scalar.value, 3)
    if known.type == v1.Value.SCALAR:
        return round(known.scalar.value, 3) >= round(part.scalar.value, 3)
    if known.type == v1.Value.RANGES:
        return all(any(a <= begin and end <= b for a, b in _pairs(known)) for begin, end in _joined(_pairs(part)))
    return set(part.set.item) <= set(known.set.item)


def _subtract(known: v1.Resource, part: v1.Resource) -> bool:
    """Whether nothing is left."""
    if known.type == v1.Value.SCALAR:
        known.scalar.value = round(known.scalar.value - part.scalar.value, 3)
        return known.scalar.value == 0
    if known.type == v1.Value.RANGES:
        rest = _pairs(known)
        for begin, end in _pairs(part):
            rest = [cut for pair in rest for cut in _without(pair, begin, end)]
        _set_ranges(known, rest)
        return not rest
    known.set.item[:] = sorted(set(known.set.item) - set(part.set.item))
    return not known.set.item


def _pairs(resource: v1.Resource) -> list[Pair]:
    return [(each.begin, each.end) for each in resource.ranges.range]


def _set_ranges(resource: v1.Resource, pairs: Iterable[Pair]) -> None:
    resource.ranges.ClearField("range")
    for begin, end in pairs:
        resource.ranges.range.add(begin=begin, end=end)


def _joined(pairs: Iterable[Pair]) -> list[Pair]:
    """The same numbers, in as few ranges as possible."""
    joined: list[Pair] = []
    for begin, end in sorted(pairs):
        if joined and begin <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def _without(pair: Pair, begin: int, end: int) -> list[Pair]:
    """What of a range is left without those numbers."""
    parts = ((pair[0], min(pair[1], begin - 1)), (max(pair[0], end + 1), pair[1]))
    return [part for part in parts if part[0] <= part[1]]
