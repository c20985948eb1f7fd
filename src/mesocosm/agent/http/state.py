"""What the agent tells of itself: its version, what it offers, and its frameworks, of which there are none yet."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm import version
from mesocosm.agent.agent import Agent
from mesocosm.agent.resources import role_of
from mesocosm.api import v1
from mesocosm.api.json import to_json
from mesocosm.api.resources import value_text

_CAPABILITIES: tuple[str, ...] = ()
"""Of those in `SlaveInfo.Capability`; all are about tasks and masters."""

TASKS = ("pending_tasks", "queued_tasks", "launched_tasks", "terminated_tasks", "completed_tasks")
EXECUTORS = ("executors", "completed_executors")
FRAMEWORKS = ("frameworks", "completed_frameworks")


@dataclass(frozen=True, slots=True)
class Address:
    """Where others reach the agent, and what it calls itself."""

    hostname: str
    ip: str
    port: int


@functools.cache
def version_info() -> dict[str, Any]:
    """`VersionInfo`: the version of Mesos whose interfaces these are, and this program's own as the tag."""
    built = Path(version.__file__).stat().st_mtime
    return {
        "build_date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(built)),
        "build_time": float(int(built)),
        "build_user": "mesocosm",
        "git_tag": f"mesocosm-{version.__version__}",
        "version": version.MESOS_VERSION,
    }


def agent_info(agent: Agent, address: Address) -> dict[str, Any]:
    """`AgentInfo`. It has no id before a master gives it one."""
    info = v1.AgentInfo(
        hostname=address.hostname, port=address.port, resources=agent.resources, attributes=agent.attributes
    )
    return to_json(info)


def state(agent: Agent, address: Address, *, with_flags: bool) -> dict[str, Any]:
    """The answer of /state."""
    by_role: dict[str, list[v1.Resource]] = {}
    for resource in agent.resources:
        by_role.setdefault(role_of(resource), []).append(resource)
    free = by_role.pop("*", [])
    answer: dict[str, Any] = {
        **version_info(),
        "start_time": agent.started,
        "id": "",
        "pid": f"slave(1)@{address.ip}:{address.port}",
        "hostname": address.hostname,
        "capabilities": list(_CAPABILITIES),
        "resources": _summary(agent.resources),
        "reserved_resources": {role: _summary(reserved) for role, reserved in by_role.items()},
        "unreserved_resources": _summary(free),
        "reserved_resources_full": {role: _full(reserved) for role, reserved in by_role.items()},
        "unreserved_resources_full": _full(free),
        "reserved_resources_allocated": {},
        "unreserved_resources_allocated": dict.fromkeys(("disk", "mem", "gpus", "cpus"), 0.0),
        "resource_providers": [],
        "attributes": {attribute.name: _value(attribute) for attribute in agent.attributes},
    }
    if with_flags:
        if agent.flags.log_dir is not None:
            answer["log_dir"] = str(agent.flags.log_dir)
        if agent.flags.external_log_file is not None:
            answer["external_log_file"] = str(agent.flags.external_log_file)
        answer["flags"] = dict(agent.texts)
    return {**answer, "frameworks": [], "completed_frameworks": []}


def _summary(resources: Iterable[v1.Resource]) -> dict[str, Any]:
    """Amounts by name, of all roles. Those that are always there are so when there is nothing of them."""
    found: dict[str, Any] = dict.fromkeys(("disk", "mem", "gpus", "cpus"), 0.0)
    for resource in resources:
        value = _value(resource)
        known = found.get(resource.name)
        if known is not None and not isinstance(value, float):
            value = f"{known[:-1]}, {value[1:]}"
        found[resource.name] = value if known is None or isinstance(value, str) else known + value
    return found


def _value(message: v1.Resource | v1.Attribute) -> float | str:
    return message.scalar.value if message.type == v1.Value.SCALAR else value_text(message)


def _full(resources: Iterable[v1.Resource]) -> list[dict[str, Any]]:
    """The messages, with the role in its older place, too."""
    return [{**to_json(resource), "role": role_of(resource)} for resource in resources]
