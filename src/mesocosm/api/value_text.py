"""Resources and attributes as flags have them: `cpus:2;ports(web):[31000-32000]` (docs/attributes-resources.md)."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator

from mesocosm.api import v1
from mesocosm.api.json import from_json
from mesocosm.api.resources import validate_gpus, validate_resources, validate_role

_NAME = re.compile(r"([^()]+)(?:\(([^()]*)\))?")
_RANGE = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_MOST = (1 << 64) - 1
_LEAST = sys.float_info.min
"""The smallest normal number of double precision."""
_STATIC = v1.Resource.ReservationInfo.STATIC


def parse_resources(text: str, default_role: str = "*") -> tuple[v1.Resource, ...]:
    """What an agent offers: JSON, or `name(role):value` separated by semicolons. Raises ValueError.

    One without a role is of `default_role`. A role that is not `*` is a static reservation.
    """
    if (wrong := validate_role(default_role)) is not None:
        raise ValueError(wrong)
    resources = _of_json(text) if text.lstrip().startswith("[") else _of_pairs(text)
    roled = [_with_role(resource, default_role) for resource in resources]
    if (wrong := validate_resources(roled) or validate_gpus(roled)) is not None:
        raise ValueError(wrong)
    return tuple(map(_reserved, roled))


def parse_attributes(text: str) -> tuple[v1.Attribute, ...]:
    """`name:value` separated by semicolons. Raises ValueError."""
    attributes: list[v1.Attribute] = []
    for name, value in _pairs(text):
        attribute = v1.Attribute(name=name)
        parsed = parse_value(value)
        if parsed.type == v1.Value.SET:
            raise ValueError(f"the attribute {name!r} cannot be a set")
        _fill(attribute, parsed)
        attributes.append(attribute)
    return tuple(attributes)


def parse_value(text: str) -> v1.Value:
    """`1.5`, `[1-3,7-9]`, `{a,b}`, or any other text. Raises ValueError. Spaces do not count."""
    text = text.replace(" ", "")
    if not text:
        raise ValueError("a value is empty")
    if text.startswith("["):
        return v1.Value(type=v1.Value.RANGES, ranges=v1.Value.Ranges(range=_ranges(text)))
    if text.startswith("{"):
        items = [item for item in _inner(text, "}").split(",") if item]
        return v1.Value(type=v1.Value.SET, set=v1.Value.Set(item=items))
    if any(bracket in text for bracket in "[]{}"):
        raise ValueError(f"{text!r} has a bracket that does not belong there")
    number = _number(text)
    if number is None:
        return v1.Value(type=v1.Value.TEXT, text=v1.Value.Text(value=text))
    return v1.Value(type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=number))


def _of_json(text: str) -> Iterator[v1.Resource]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the value is no JSON: {error}") from None
    for entry in entries:
        resource = from_json(entry, v1.Resource)
        _refuse_changing(resource)
        yield resource


def _refuse_changing(resource: v1.Resource) -> None:
    """Raises ValueError for what only a master and frameworks make of resources."""
    dynamic = any(entry.type != _STATIC for entry in resource.reservations)
    asked = {
        "a persistent volume": resource.disk.HasField("persistence"),
        "revocable": resource.HasField("revocable"),
        "shared": resource.HasField("shared"),
        "dynamically reserved": resource.HasField("reservation") or dynamic,
        "allocated": resource.HasField("allocation_info"),
    }
    for what, is_so in asked.items():
        if is_so:
            raise ValueError(f"the resource {resource.name!r} is {what}, which an agent cannot start with")


def _of_pairs(text: str) -> Iterator[v1.Resource]:
    for name, value in _pairs(text):
        matched = _NAME.fullmatch(name)
        if matched is None:
            raise ValueError(f"{name!r} is no name of a resource, such as cpus or cpus(role)")
        resource = v1.Resource(name=matched[1].strip(), role=matched[2])
        parsed = parse_value(value)
        if parsed.type == v1.Value.TEXT:
            raise ValueError(f"{value!r} is no amount of the resource {resource.name!r}")
        _fill(resource, parsed)
        yield resource


def _fill(target: v1.Resource | v1.Attribute, value: v1.Value) -> None:
    target.type = value.type
    for field, part in value.ListFields():
        if field.message_type is not None:
            getattr(target, field.name).CopyFrom(part)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in re.split(r"[;\n]", text):
        name, colon, value = (part.strip() for part in pair.partition(":"))
        if not name and not colon:
            continue
        if not name or not value:
            raise ValueError(f"{pair.strip()!r} is no pair of a name and a value, as in cpus:2")
        yield name, value


def _number(text: str) -> float | None:
    """A number that counts something; others are text, as in Mesos. Raises ValueError for one too small to count."""
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    if not math.isfinite(number) or number < 0:
        return None
    if 0 < number < _LEAST:
        raise ValueError(f"{text!r} is too small a number")
    return number


def _ranges(text: str) -> list[v1.Value.Range]:
    """Sorted, and those that touch as one."""
    pairs = []
    for part in filter(None, _inner(text, "]").split(",")):
        matched = _RANGE.fullmatch(part)
        if matched is None or int(matched[2]) > _MOST:
            raise ValueError(f"{part!r} is no range, such as 31000-32000")
        pairs.append((int(matched[1]), int(matched[2])))
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(pairs):
        if begin > end:
            raise ValueError(f"the range {begin}-{end} ends before it begins")
        if joined and begin <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return [v1.Value.Range(begin=begin, end=end) for begin, end in joined]


def _inner(text: str, closing: str) -> str:
    if not text.endswith(closing) or any(bracket in text[1:-1] for bracket in "[]{}"):
        raise ValueError(f"the brackets of {text!r} do not match")
    return text[1:-1]


def _with_role(resource: v1.Resource, default_role: str) -> v1.Resource:
    """The resource in the older form, where the role stands beside it."""
    roled = v1.Resource()
    roled.CopyFrom(resource)
    if not roled.role or not (roled.HasField("role") or roled.reservations):
        roled.role = default_role
    return roled


def _reserved(resource: v1.Resource) -> v1.Resource:
    """The resource in the newer form: its role is that of a static reservation, or `*` and not said."""
    reserved = v1.Resource()
    reserved.CopyFrom(resource)
    if not reserved.reservations and resource.role != "*":
        reserved.reservations.add(type=_STATIC, role=resource.role)
    reserved.ClearField("role")
    return reserved
