"""What the agent tells of itself: its version, what it offers, and what its frameworks do with that."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm import version
from mesocosm.agent.agent import Agent
from mesocosm.agent.http.amounts import full, summary, value
from mesocosm.agent.http.frameworks import Shown
from mesocosm.agent.resources import role_of
from mesocosm.api import v1
from mesocosm.api.json import to_json
from mesocosm.master.registration import capabilities


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
    agent_id = agent.tasks.registration.agent_id
    info = v1.AgentInfo(
        id=v1.AgentID(value=agent_id) if agent_id else None,
        hostname=address.hostname,
        port=address.port,
        resources=agent.tasks.resources(),
        attributes=agent.attributes,
    )
    return to_json(info)


def drain(agent: Agent) -> dict[str, Any]:
    """The fields of GET_AGENT of an agent that is being drained."""
    config, began = agent.tasks.drain.config, agent.tasks.drain.began
    if config is None:
        return {}
    return {"drain_config": to_json(config), "estimated_drain_start_time": {"nanoseconds": round(began * 1e9)}}


def state(agent: Agent, address: Address, frameworks: Shown, *, with_flags: bool) -> dict[str, Any]:
    """The answer of /state."""
    offered = agent.tasks.resources()
    by_role = _by_role(offered)
    free = by_role.pop("*", [])
    used = _by_role(agent.tasks.used())
    answer: dict[str, Any] = {
        **version_info(),
        "start_time": agent.started,
        "id": agent.tasks.registration.agent_id,
        "pid": f"slave(1)@{address.ip}:{address.port}",
        "hostname": address.hostname,
        "capabilities": [v1.AgentInfo.Capability.Type.Name(each.type) for each in capabilities(agent.tasks.handlers())],
        "resources": summary(offered),
        "reserved_resources": {role: summary(reserved) for role, reserved in by_role.items()},
        "unreserved_resources": summary(free),
        "reserved_resources_full": {role: full(reserved) for role, reserved in by_role.items()},
        "unreserved_resources_full": full(free),
        "unreserved_resources_allocated": summary(used.pop("*", [])),
        "reserved_resources_allocated": {role: summary(resources) for role, resources in used.items()},
        "resource_providers": [],
        "attributes": {attribute.name: value(attribute) for attribute in agent.attributes},
    }
    if (master := agent.master_hostname()) is not None:
        answer["master_hostname"] = master
    if with_flags:
        if agent.flags.log_dir is not None:
            answer["log_dir"] = str(agent.flags.log_dir)
        if agent.flags.external_log_file is not None:
            answer["external_log_file"] = str(agent.flags.external_log_file)
        answer["flags"] = dict(agent.texts)
    if (config := agent.tasks.drain.config) is not None:
        answer["drain_config"] = to_json(config)
        answer["estimated_drain_start_time_seconds"] = int(agent.tasks.drain.began)
    return {**answer, **frameworks.state()}


def _by_role(resources: Iterable[v1.Resource]) -> dict[str, list[v1.Resource]]:
    found: dict[str, list[v1.Resource]] = {}
    for resource in resources:
        found.setdefault(role_of(resource), []).append(resource)
    return found
