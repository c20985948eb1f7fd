"""What the agent tells of itself: its version, what it offers, and its frameworks, of which there are none yet."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm import version
from mesocosm.agent.agent import Agent
from mesocosm.agent.resources import AgentResources

_MB = 1 << 20
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


def resources(offered: AgentResources) -> list[dict[str, Any]]:
    """As `Resource` messages."""
    scalars = {"cpus": offered.cpus, "mem": float(offered.mem // _MB), "disk": float(offered.disk // _MB)}
    ranges = [{"begin": begin, "end": end} for begin, end in offered.ports]
    return [
        *({"name": name, "type": "SCALAR", "scalar": {"value": amount}} for name, amount in scalars.items()),
        {"name": "ports", "type": "RANGES", "ranges": {"range": ranges}},
    ]


def agent_info(agent: Agent, address: Address) -> dict[str, Any]:
    """`AgentInfo`. It has no id before a master gives it one."""
    return {
        "hostname": address.hostname,
        "port": address.port,
        "resources": resources(agent.resources),
    }


def state(agent: Agent, address: Address, *, with_flags: bool) -> dict[str, Any]:
    """The answer of /state."""
    total = _summary(agent.resources)
    full = [{**resource, "role": "*"} for resource in resources(agent.resources)]
    answer: dict[str, Any] = {
        **version_info(),
        "start_time": agent.started,
        "id": "",
        "pid": f"slave(1)@{address.ip}:{address.port}",
        "hostname": address.hostname,
        "capabilities": list(_CAPABILITIES),
        "resources": total,
        "reserved_resources": {},
        "unreserved_resources": total,
        "reserved_resources_full": {},
        "unreserved_resources_full": full,
        "reserved_resources_allocated": {},
        "unreserved_resources_allocated": dict.fromkeys(("disk", "mem", "gpus", "cpus"), 0.0),
        "resource_providers": [],
        "attributes": {},
    }
    if with_flags:
        if agent.flags.log_dir is not None:
            answer["log_dir"] = str(agent.flags.log_dir)
        if agent.flags.external_log_file is not None:
            answer["external_log_file"] = str(agent.flags.external_log_file)
        answer["flags"] = dict(agent.texts)
    return {**answer, "frameworks": [], "completed_frameworks": []}


def _summary(offered: AgentResources) -> dict[str, Any]:
    ports = ", ".join(f"{begin}-{end}" for begin, end in offered.ports)
    return {
        "disk": float(offered.disk // _MB),
        "mem": float(offered.mem // _MB),
        "gpus": 0.0,
        "cpus": offered.cpus,
        "ports": f"[{ports}]",
    }
