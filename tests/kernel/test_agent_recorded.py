"""The agent answers as a real agent of Mesos did, of which tests/unit/data/operator_api has the answers.

Answers are compared key by key and type by type, and by value where that does not depend on the machine or the moment.
What differs is listed, with the reason, and nothing that is listed may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from mesocosm.linux import cgroup
from tests.agent_process import AgentProcess, Answer, identity
from tests.unit import recorded

pytestmark = pytest.mark.kernel

NOBODY_ELSE = "there is no master, so no framework, and none of their tasks and executors"
ISOLATORS = "the recorded agent had the isolators network/cni and cgroups/net_cls"
BUILD = "which source this was built of is told by another of Mesos's optional fields"
OWN_NAME = "a sandbox is found by the name of its container, too"
GIVEN = "the recorded agent was given this flag, which nothing serves here, or which has no default"
NEWER = "a flag of Mesos that the recorded agent was built without, or one of our own"
HERE = "a flag that says where and how this agent runs"

RESOURCES = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
    {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
]
FLAGS = (
    *("--cgroups_enable_cfs", "--hostname=127.0.0.1", "--ip=127.0.0.1"),
    *("--attributes=rack:r1;zone:z", "--resources=cpus:2;mem:4096;disk:10000;ports:[31000-32000]"),
)

Ask = Callable[[AgentProcess], Answer]


def call(kind: str, **fields: Any) -> Ask:
    return lambda agent: agent.call(kind, **fields)


def get(path: str) -> Ask:
    return lambda agent: agent.get(path)


ASKED: dict[str, Ask] = {
    "GET_AGENT": call("GET_AGENT"),
    "GET_CONTAINERS": call("GET_CONTAINERS", show_nested=True, show_standalone=True),
    "GET_EXECUTORS": call("GET_EXECUTORS"),
    "GET_FLAGS": call("GET_FLAGS"),
    "GET_FRAMEWORKS": call("GET_FRAMEWORKS"),
    "GET_HEALTH": call("GET_HEALTH"),
    "GET_LOGGING_LEVEL": call("GET_LOGGING_LEVEL"),
    "GET_METRICS": call("GET_METRICS"),
    "GET_OPERATIONS": call("GET_OPERATIONS"),
    "GET_RESOURCE_PROVIDERS": call("GET_RESOURCE_PROVIDERS"),
    "GET_STATE": call("GET_STATE"),
    "GET_TASKS": call("GET_TASKS"),
    "GET_VERSION": call("GET_VERSION"),
    "kill_unknown": call("KILL_CONTAINER", container_id=identity("nope")),
    "launch_container": lambda agent: agent.launch("another", "exit 3"),
    "launch_container_again": lambda agent: agent.launch("standalone-1", "true"),
    "launch_nested": lambda agent: agent.launch("another", "true", nested_in="standalone-1"),
    "wait_container": call("WAIT_CONTAINER", container_id=identity("another")),
    "wait_unknown": call("WAIT_CONTAINER", container_id=identity("nope")),
    # Standalone and nested ones are shown by no agent of Mesos here.
    "v0_containers": get("/containers?show_standalone=true"),
    "v0_files_debug": get("/files/debug"),
    "v0_flags": get("/flags"),
    "v0_health": get("/health"),
    "v0_help": get("/help"),
    "v0_metrics_snapshot": get("/metrics/snapshot"),
    "v0_monitor_statistics": get("/monitor/statistics"),
    "v0_state": get("/state"),
    "v0_version": get("/version"),
}
STREAMS = {"attach_input", "attach_output", "session"}
"""Recorded, and compared where there is something to talk to: test_sessions.py."""

# Differences by the name of the answer: paths, in which * is anything, and the reason.
_FLAGS_GIVEN = ("cgroups_net_cls_primary_handle", "master")
_FLAGS_NEWER = (
    "egress_*",
    "ephemeral_ports_per_container",
    "ingress_*",
    "logrotate_*",
    "network_enable_*",
    "network_cni_*",
    "docker_registry_mirrors",
)


def _flags(path: str) -> dict[str, str]:
    given = {path.format(name): GIVEN for name in _FLAGS_GIVEN}
    return given | {path.format(name): NEWER for name in _FLAGS_NEWER}


DIFFERENT: dict[str, dict[str, str]] = {
    "GET_AGENT": {
        "get_agent.agent_info.id*": NOBODY_ELSE,
    },
    "GET_CONTAINERS": {
        "get_containers.containers[c69da1f3-*": NOBODY_ELSE,
        "get_containers.containers[*].container_status.cgroup_info*": ISOLATORS,
    },
    "GET_EXECUTORS": {"get_executors.*executors*": NOBODY_ELSE},
    "GET_FLAGS": _flags("get_flags.flags[{}]*"),
    "GET_FRAMEWORKS": {"get_frameworks.*frameworks*": NOBODY_ELSE},
    "GET_STATE": {
        "get_state.get_executors.*executors*": NOBODY_ELSE,
        "get_state.get_frameworks.*frameworks*": NOBODY_ELSE,
        "get_state.get_tasks.launched_tasks*": NOBODY_ELSE,
        "get_state.get_tasks.terminated_tasks*": NOBODY_ELSE,
    },
    "GET_TASKS": {
        "get_tasks.launched_tasks*": NOBODY_ELSE,
        "get_tasks.terminated_tasks*": NOBODY_ELSE,
    },
    "GET_VERSION": {"get_version.version_info.git_*": BUILD},
    "v0_containers": {
        "[c69da1f3-*": NOBODY_ELSE,
        "[standalone-1]*": "Mesos shows standalone containers in its v1 API only",
    },
    "v0_files_debug": {
        "/frameworks/*": NOBODY_ELSE,
        "/var/lib/mesos/slaves/*": NOBODY_ELSE,
        "/containers/*": OWN_NAME,
        "*/work/containers/*": "the recorded agent had containers of tasks only, when this was asked for",
    },
    "v0_flags": _flags("flags.{}"),
    "v0_metrics_snapshot": {
        "containerizer/mesos/provisioner/*": "what the provisioner cannot remove is logged, and not counted",
        "containerizer/mesos/container_launch_ms*": "how long launches take is told here only",
    },
    "v0_monitor_statistics": {
        "[t2]*": NOBODY_ELSE,
        "[standalone-1]*": "Mesos has statistics of standalone containers in its v1 API only",
    },
    "v0_state": {
        **_flags("flags.{}"),
        "completed_frameworks*": NOBODY_ELSE,
        "frameworks*": NOBODY_ELSE,
        "git_*": BUILD,
        "master_hostname": NOBODY_ELSE,
    },
    "v0_version": {"git_*": BUILD},
}
ON_CGROUP_V2 = {
    "GET_CONTAINERS": {"*.mem_medium_pressure_counter": "cgroup v2 has no such events, and the recorded agent had v1"},
}

# Values that are the same everywhere. Of the flags all are, but those that say where and how this agent runs.
CONSTANT: dict[str, tuple[str, ...]] = {
    "GET_HEALTH": ("*",),
    "GET_LOGGING_LEVEL": ("*",),
    "GET_OPERATIONS": ("*",),
    "GET_RESOURCE_PROVIDERS": ("*",),
    "GET_AGENT": ("*hostname", "*resources*", "*attributes*"),
    "GET_CONTAINERS": ("*container_id*", "*standalone-1*limit*", "*standalone-1*pressure*"),
    "GET_VERSION": ("*.version",),
    "GET_FLAGS": ("*",),
    "wait_container": ("*",),
    "v0_flags": ("*",),
    "v0_state": (
        *("flags.*", "hostname", "version"),
        *("attributes*", "resources*", "unreserved_resources.*", "unreserved_resources_full*"),
    ),
    "v0_version": ("version",),
}
_FLAGS_HERE = (
    *("cgroups_cpu_enable_pids_and_tids_count", "cgroups_root", "docker", "fetcher_cache_dir", "isolation"),
    *("launcher_dir", "port", "runtime_dir", "systemd_enable_support", "work_dir"),
)
VARIABLE = {
    **{f"*flags[{name}].value": HERE for name in _FLAGS_HERE},
    **{f"flags.{name}": HERE for name in _FLAGS_HERE},
}


def test_every_recorded_answer_is_compared() -> None:
    assert ASKED.keys() | STREAMS == {path.stem for path in recorded.DATA.glob("*.http")}


def test_answers_are_those_of_mesos(agent: AgentProcess) -> None:
    agent.start(*FLAGS)
    assert agent.launch("standalone-1", "sleep 1000", resources=RESOURCES).status == 200
    assert agent.launch("kid", "sleep 1000", nested_in="standalone-1").status == 200
    differences = {}
    for name, ask in ASKED.items():
        answer = ask(agent)
        if found := [*_of_head(name, answer), *_of_body(name, answer.body)]:
            differences[name] = found
    assert differences == {}


def _of_head(name: str, answer: Answer) -> Iterator[str]:
    head = (recorded.DATA / f"{name}.http").read_text().partition("\n\n")[0].splitlines()
    status = int(head[0].split()[1])
    headers = dict(line.split(": ", 1) for line in head[1:])
    if answer.status != status:
        yield f"the status {answer.status}, not {status}"
    for header in ("Content-Type", "Transfer-Encoding"):
        if answer.headers.get(header) != headers.get(header):
            yield f"{header}: {answer.headers.get(header)}, not {headers.get(header)}"


def _of_body(name: str, body: bytes) -> Iterator[str]:
    expected = recorded.body(name).strip()
    if name == "v0_help":
        # Those of Mesos but the profiler, which is one of C++.
        lines = [line for line in expected.decode().splitlines() if "profiler" not in line]
        yield from (f"no {line!r}" for line in lines if line not in body.decode().splitlines())
    elif not expected.startswith((b"{", b"[")):
        if body != expected:
            yield f"{body!r}, not {expected!r}"
    else:
        yield from _of_json(name, _leaves(json.loads(body)), _leaves(json.loads(expected)))


def _of_json(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    allowed = DIFFERENT.get(name, {}) | (ON_CGROUP_V2.get(name, {}) if _is_cgroup_v2() else {})
    used = set()
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in ours or path not in theirs or type(ours[path]) is not type(theirs[path]):
            if patterns := [pattern for pattern in allowed if _matches(path, pattern)]:
                used.update(patterns)
            else:
                yield f"{path}: {_shown(ours, path)}, not {_shown(theirs, path)}"
        elif (
            ours[path] != theirs[path]
            and _matches(path, "type", *CONSTANT.get(name, ()))
            and not _matches(path, *VARIABLE)
        ):
            yield f"{path} = {ours[path]!r}, not {theirs[path]!r}"
    yield from (f"{pattern} does not differ" for pattern in allowed.keys() - used)


def _is_cgroup_v2() -> bool:
    memory = cgroup.hierarchy("memory")
    return memory is not None and memory.version == 2


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """What is neither an object nor a list, or is an empty one, by its path.

    Elements of a list are called by what names them; those that nothing names are taken for examples of one.
    """
    if isinstance(value, dict) and value:
        parts = [(f"{path}.{key}" if path else key, part) for key, part in value.items()]
    elif isinstance(value, list) and value:
        parts = [(f"{path}[{_name(part)}]", part) for part in value]
    else:
        return {path: value}
    return {inner: leaf for name, part in parts for inner, leaf in _leaves(part, name).items()}


def _name(element: Any) -> str:
    if isinstance(element, dict):
        for key in ("container_id", "executor_id", "name", "id"):
            if key in element:
                named = element[key]
                return str(named["value"] if isinstance(named, dict) else named)
    return ""


def _matches(path: str, *patterns: str) -> bool:
    """Whether one of the patterns is one of the whole path."""
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), path) for pattern in patterns)


def _shown(leaves: Mapping[str, Any], path: str) -> str:
    return repr(leaves[path]) if path in leaves else "absent"
