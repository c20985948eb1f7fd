"""Resources as the older endpoints have them: amounts by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesocosm.agent.resources import role_of
from mesocosm.api import v1
from mesocosm.api.json import to_json
from mesocosm.api.resources import value_text


def summary(resources: Iterable[v1.Resource]) -> dict[str, Any]:
    """Amounts by name, of all roles. Those that are always there are so when there is nothing of them."""
    found: dict[str, Any] = dict.fromkeys(("disk", "mem", "gpus", "cpus"), 0.0)
    for resource in resources:
        amount = value(resource)
        known = found.get(resource.name)
        if known is not None and not isinstance(amount, float):
            amount = f"{known[:-1]}, {amount[1:]}"
        found[resource.name] = amount if known is None or isinstance(amount, str) else round(known + amount, 3)
    return found


def value(message: v1.Resource | v1.Attribute) -> float | str:
    """A number, or ranges, sets and texts as flags have them."""
    return message.scalar.value if message.type == v1.Value.SCALAR else value_text(message)


def full(resources: Iterable[v1.Resource]) -> list[dict[str, Any]]:
    """The messages, with the role in its older place, too."""
    return [{**to_json(resource), "role": role_of(resource)} for resource in resources]
