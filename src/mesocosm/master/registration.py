"""What an agent says of itself when it registers, and whether it may be another than it was before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from google.protobuf.message import Message

from mesocosm.api import internal, v1
from mesocosm.api.resources import value_text
from mesocosm.errors import FlagError
from mesocosm.version import MESOS_VERSION

VERSION = MESOS_VERSION
"""By which a master decides whether it takes an agent: 1.0.0 is the oldest."""

_ANY_ROLE = "*"
_Capability = v1.AgentInfo.Capability
_Value = v1.Resource | v1.Attribute
_Each = TypeVar("_Each", v1.Resource, v1.Attribute)

RESOURCE_PROVIDER = _Capability(type="RESOURCE_PROVIDER")
_NEEDED: dict[str, type[Message] | None] = {
    "MULTI_ROLE": None,
    "HIERARCHICAL_ROLE": None,
    "RESERVATION_REFINEMENT": None,
    "RESOURCE_PROVIDER": internal.ApplyOperationMessage,
    "RESIZE_VOLUME": internal.ApplyOperationMessage,
    "AGENT_OPERATION_FEEDBACK": internal.ApplyOperationMessage,
    "AGENT_DRAINING": internal.DrainSlaveMessage,
    "TASK_RESOURCE_LIMITS": internal.RunTaskMessage,
}
"""The capabilities, with the message that each one has a master send."""


def capabilities(handled: Collection[type[Message]]) -> tuple[v1.AgentInfo.Capability, ...]:
    """What masters may rely on, by the messages that are handled."""
    return tuple(_Capability(type=name) for name, kind in _NEEDED.items() if kind is None or kind in handled)


def slave_info(
    hostname: str,
    port: int,
    resources: Iterable[v1.Resource],
    attributes: Iterable[v1.Attribute],
    domain: v1.DomainInfo | None = None,
) -> internal.SlaveInfo:
    """The agent as masters know it, without an id."""
    return internal.SlaveInfo(
        hostname=hostname,
        port=port,
        resources=map(_as_sent, resources),
        attributes=attributes,
        domain=domain,
        checkpoint=True,
    )


def _as_sent(resource: v1.Resource) -> v1.Resource:
    """A resource with its role where it has been since before reservations could be refined.

    Agents of Mesos send it so for older masters (`downgradeResources`), and newer ones take both.
    """
    sent = v1.Resource()
    sent.CopyFrom(resource)
    if not sent.reservations:
        sent.role = _ANY_ROLE
    elif len(sent.reservations) == 1 and sent.reservations[0].type == v1.Resource.ReservationInfo.STATIC:
        sent.role = sent.reservations[0].role
        del sent.reservations[:]
    return sent


def check_reconfiguration(policy: str, before: internal.SlaveInfo, now: internal.SlaveInfo) -> None:
    """Raises FlagError where the `policy` does not let an agent that was `before` be what it is `now`.

    Source: `src/slave/compatibility.cpp`.
    """
    wrong = _not_equal(before, now) if policy == "equal" else _not_more(before, now)
    if wrong is not None:
        hint = "set the flags as before, or remove meta/slaves/latest from --work_dir to register as a new agent"
        if policy == "equal":
            hint += "; --reconfiguration_policy=additive allows for more than there was"
        raise FlagError(f"--reconfiguration_policy={policy}: {wrong}", hint)


def _not_equal(before: internal.SlaveInfo, now: internal.SlaveInfo) -> str | None:
    for noun, old, new in (
        ("resources", before.resources, now.resources),
        ("attributes", before.attributes, now.attributes),
    ):
        if _sorted(old) != _sorted(new):
            return f"the {noun} of the agent were {'; '.join(map(_text, old))}, and are {'; '.join(map(_text, new))}"
    return _changed("hostname", before, now) or _changed("port", before, now) or _changed("domain", before, now)


def _not_more(before: internal.SlaveInfo, now: internal.SlaveInfo) -> str | None:
    return (
        _changed("hostname", before, now)
        or _changed("port", before, now)
        or (_changed("domain", before, now) if before.HasField("domain") else None)
        or _less("resource", _added(before.resources), _added(now.resources), _holds)
        or _less("attribute", before.attributes, now.attributes, _keeps)
    )


def _changed(name: str, before: internal.SlaveInfo, now: internal.SlaveInfo) -> str | None:
    old, new = getattr(before, name), getattr(now, name)
    return None if old == new else f"the {name} of the agent was {_line(old)}, and is {_line(new)}"


def _less(
    noun: str, before: Iterable[_Each], now: Iterable[_Each], suffices: Callable[[_Each, _Each], bool]
) -> str | None:
    """What of `before` nothing of `now` stands for."""
    found = list(now)
    for old in before:
        if not any(suffices(old, new) for new in found):
            return f"the {noun} {_text(old)} has gone, or is less"
    return None


def _added(resources: Iterable[v1.Resource]) -> list[v1.Resource]:
    """With scalar ones of the same kind as one."""
    totals: list[v1.Resource] = []
    for resource in resources:
        same = next((total for total in totals if _is_same(total, resource) and resource.HasField("scalar")), None)
        if same is None:
            totals.append(same := v1.Resource())
            same.CopyFrom(resource)
        else:
            same.scalar.value = round(same.scalar.value + resource.scalar.value, 3)
    return totals


def _is_same(one: v1.Resource, other: v1.Resource) -> bool:
    """Whether they differ in their amounts alone."""
    bare = v1.Resource(), v1.Resource()
    for copy, resource in zip(bare, (one, other), strict=True):
        copy.CopyFrom(resource)
        for amount in ("scalar", "ranges", "set"):
            copy.ClearField(amount)
    return bare[0] == bare[1]


def _holds(old: v1.Resource, new: v1.Resource) -> bool:
    return _is_same(old, new) and _is_within(old, new)


def _keeps(old: v1.Attribute, new: v1.Attribute) -> bool:
    """Numbers and texts stay as they are; ranges may grow."""
    if old.name != new.name or old.type != new.type:
        return False
    return _is_within(old, new) if old.type == v1.Value.RANGES else old == new


def _is_within(old: _Value, new: _Value) -> bool:
    if old.type == v1.Value.SCALAR:
        return old.scalar.value <= new.scalar.value
    if old.type == v1.Value.RANGES:
        merged = _merged(new)
        return all(any(begin <= part.begin and part.end <= end for begin, end in merged) for part in old.ranges.range)
    return set(old.set.item) <= set(new.set.item)


def _merged(value: _Value) -> list[tuple[int, int]]:
    """The ranges in their order; those that touch are one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted((part.begin, part.end) for part in value.ranges.range):
        if merged and begin <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _sorted(messages: Iterable[Message]) -> list[bytes]:
    return sorted(message.SerializeToString(deterministic=True) for message in messages)


def _text(value: _Value) -> str:
    role = f"({value.role})" if isinstance(value, v1.Resource) and value.role not in ("", _ANY_ROLE) else ""
    return f"{value.name}{role}:{value_text(value)}"


def _line(value: object) -> str:
    return " ".join(str(value).split()) or "none"
